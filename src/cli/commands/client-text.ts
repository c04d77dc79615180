import type { MessageShape } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  type ClientCapsSchema,
  type OAuthClientSchema,
  SecretState,
} from "../../gen/keyturn/v1/oauth_client_service_pb.js";
import type { Invocation } from "../command.ts";
import type { Column } from "../table.ts";
import { both, span } from "../when.ts";
import { pairsText } from "./account-text.ts";

export type OAuthClient = MessageShape<typeof OAuthClientSchema>;

/** Columns of `clients list`. */
export const clientColumns: readonly Column<OAuthClient>[] = [
  { title: "PROVIDER", of: ({ provider }) => provider, whole: true },
  { title: "NAME", of: ({ name }) => name, whole: true },
  {
    title: "STATE",
    of: stateOf,
    paint: (client, text, paint) => {
      if (client.fault !== undefined) return paint("red", text);
      return paint(client.hold === undefined ? "green" : "yellow", text);
    },
  },
  { title: "CLIENT ID", of: ({ clientId }) => clientId },
  { title: "CAPS", of: ({ caps }) => capsText(caps) },
  { title: "LABELS", of: ({ labels }) => pairsText(labels) },
];

function stateOf({ fault, hold }: OAuthClient): string {
  if (fault !== undefined) return `refused: ${fault.code}`;
  return hold === undefined ? "ok" : "on hold";
}

/** `4 at once, 100 per 1 min`; empty when the provider file decides. */
export function capsText(caps: MessageShape<typeof ClientCapsSchema> | undefined): string {
  const { maxConcurrent, budget } = caps ?? {};
  const per = budget?.per === undefined ? "?" : span(durationMs(budget.per));
  return [
    ...(maxConcurrent === undefined ? [] : [`${maxConcurrent} at once`]),
    ...(budget === undefined ? [] : [`${budget.requests} per ${per}`]),
  ].join(", ");
}

function keyText({ privateKey }: OAuthClient): string | undefined {
  if (privateKey === undefined) return undefined;
  return privateKey.keyId === "" ? privateKey.algorithm : `${privateKey.algorithm}, key ${privateKey.keyId}`;
}

function certificateText({ certificate }: OAuthClient, nowMs: number): string | undefined {
  if (certificate === undefined) return undefined;
  return `${certificate.subject} (${certificate.fingerprint.slice(0, 16)}), until ${both(certificate.expireTime, nowMs)}`;
}

/** The whole of `clients get`, and what is said after a change. */
export function showClient(client: OAuthClient, { output, clock }: Invocation): void {
  const nowMs = clock.now();
  const { hold, fault } = client;
  const note = hold === undefined || hold.note === "" ? "" : `: ${hold.note}`;
  output.facts([
    ["client", `${client.provider} ${client.name}`],
    ["client id", client.clientId],
    [
      "provider says",
      fault === undefined ? "accepted" : `${fault.code}, ${both(fault.time, nowMs)}`,
      fault === undefined ? "green" : "red",
    ],
    [
      "on hold",
      hold === undefined ? undefined : `by ${hold.by || "?"}, ${both(hold.time, nowMs)}${note}`,
      "yellow",
    ],
    ["signs with", keyText(client)],
    ["certificate", certificateText(client, nowMs)],
    ["further secrets", client.secretFields.join(", ") || undefined],
    ["caps", capsText(client.caps) || "as the provider's file says"],
    ["labels", pairsText(client.labels)],
    ["created", both(client.createTime, nowMs)],
    ["changed", both(client.updateTime, nowMs)],
    ["revision", client.revision],
  ]);
  output.text("");
  if (client.secrets.length === 0)
    output.text(client.privateKey || client.certificate ? "no secret" : "no secret: a public client");
  else {
    output.table(client.secrets, [
      { title: "SECRET", of: ({ version }) => version, whole: true },
      { title: "STATE", of: ({ state }) => (SecretState[state] ?? "?").toLowerCase() },
      { title: "HINT", of: ({ hint }) => hint },
      { title: "CREATED", of: ({ createTime }) => both(createTime, nowMs) ?? "" },
    ]);
  }
}
