import type { MessageShape } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type EventSchema,
  EventService,
  WatchEventsResponseSchema,
} from "../../gen/keyturn/v1/event_service_pb.js";
import type { Command, Invocation } from "../command.ts";
import { EXIT } from "../exit.ts";
import { failureOf } from "../failure.ts";
import { type Colour, plain } from "../paint.ts";
import { shellWord } from "../shell-word.ts";
import { iso, relative } from "../when.ts";

type Event = MessageShape<typeof EventSchema>;

const tail: Command = {
  name: "events tail",
  summary: "Show what happens to accounts, as it happens",
  listener: "data",
  arguments: [],
  options: {
    after: { value: "CURSOR", help: "go on after this one (default: from now on)" },
    type: { value: "TYPE", help: "only this type; token_refreshed is enough", many: true },
    tenant: { value: "TENANT", help: "only this tenant's", many: true },
    provider: { value: "PROVIDER", help: "only this provider's", many: true },
    account: { value: "ACCOUNT", help: "only this account's", many: true },
    label: { value: "KEY=VALUE", help: "only with this label", many: true },
    count: { value: "N", help: "stop after so many" },
  },
  about:
    "Runs until Ctrl-C (exit code 130) and then says where to go on. Events are kept for 7 days, token_refreshed for\n15 minutes. With --json each line has the event and the cursor to go on from; lines without an event are heartbeats.",
  examples: [
    { line: "keyturn events tail", says: "everything from now on" },
    {
      line: "keyturn events tail --type authentication_error --json",
      says: "customers who have to authorize again",
    },
    { line: "keyturn events tail --account acme-crm --count 1", says: "wait for one" },
  ],
  run: async (invocation) => {
    const { options, output, connect } = invocation;
    const count = options.whole("count", 0) || Number.POSITIVE_INFINITY;
    const request = {
      afterCursor: options.text("after"),
      types: options.texts("type").map(typeOf),
      tenants: [...options.texts("tenant")],
      providers: [...options.texts("provider")],
      accountIds: [...options.texts("account")],
      labels: options.pairs("label"),
    };
    // Empty until there is a newer one than the user's own.
    let cursor = "";
    let seen = 0;
    const connection = await connect();
    try {
      for await (const message of connection.stream(EventService.method.watchEvents, request)) {
        cursor = message.cursor || cursor;
        if (output.json) output.message(WatchEventsResponseSchema, message);
        else if (message.event !== undefined) output.text(line(message.event, invocation));
        seen += message.event === undefined ? 0 : 1;
        if (seen >= count) return EXIT.done;
      }
    } catch (error) {
      // Whoever was too slow finds nothing at their own cursor any more.
      if (cursor !== "" && failureOf(error, undefined).reason !== "SUBSCRIBER_TOO_SLOW")
        output.note(`To go on from here: keyturn events tail --after ${shellWord(plain(cursor))}`);
      throw error;
    }
    if (cursor !== "")
      output.note(
        `The sidecar ended the stream. To go on: keyturn events tail --after ${shellWord(plain(cursor))}`,
      );
    return EXIT.failed;
  },
};

const SUBJECT: readonly (readonly [types: readonly string[], subject: string])[] = [
  [["secret_rotated", "configuration_error"], "oauth_client"],
  [["outage_suspected", "outage_cleared"], "provider"],
  [["rotated"], "kek"],
];

/** `token_refreshed` → `integrated_account:token_refreshed`. */
function typeOf(text: string): string {
  if (text.includes(":")) return text;
  const subject = SUBJECT.find(([types]) => types.includes(text))?.[1] ?? "integrated_account";
  return `${subject}:${text}`;
}

const COLOUR: Readonly<Record<string, Colour>> = {
  authentication_error: "red",
  configuration_error: "red",
  outage_suspected: "red",
  refresh_failed: "yellow",
  expiring: "yellow",
  token_refreshed: "green",
  reactivated: "green",
  outage_cleared: "green",
};

const TYPE_WIDTH = "integrated_account:authentication_error".length;

function line(event: Event, { output, clock }: Invocation): string {
  const kind = event.type.split(":", 2)[1] ?? "";
  const type = plain(event.type).padEnd(TYPE_WIDTH);
  const colour = COLOUR[kind];
  const owner = [event.provider, event.client].filter((part) => part !== "").join(" ");
  const slot = event.tokenName === "" || event.tokenName === "default" ? "" : `/${event.tokenName}`;
  const parts = [
    event.time === undefined ? "" : iso(timestampMs(event.time)),
    colour === undefined ? type : output.paint(colour, type),
    plain(event.accountId === "" ? owner : `${event.accountId}${slot} (${owner})`),
    plain(detailOf(event, clock.now())),
  ];
  return parts.filter((part) => part !== "").join("  ");
}

function detailOf({ reason, detail, endTime }: Event, nowMs: number): string {
  const parts = reason === "" ? [] : [reason];
  if (endTime !== undefined) parts.push(`ends ${relative(timestampMs(endTime), nowMs)}`);
  if (detail.case === "token") {
    const { generation, expireTime, nextRefreshTime } = detail.value;
    parts.push(`generation ${generation}`);
    if (expireTime !== undefined) parts.push(`expires ${relative(timestampMs(expireTime), nowMs)}`);
    if (nextRefreshTime !== undefined)
      parts.push(`next refresh ${relative(timestampMs(nextRefreshTime), nowMs)}`);
  }
  if (detail.case === "failure") {
    const { providerCode, cause, nextRefreshTime } = detail.value;
    parts.push(...[providerCode, cause].filter((part) => part !== "" && part !== reason));
    if (nextRefreshTime !== undefined) parts.push(`again ${relative(timestampMs(nextRefreshTime), nowMs)}`);
  }
  if (detail.case === "kek") parts.push(`${detail.value.kekId} version ${detail.value.version}`);
  return parts.join(", ");
}

/** Commands of the event stream. */
export const eventCommands: readonly Command[] = [tail];
