import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Event, EventSchema } from "../../gen/keyturn/v1/event_service_pb.js";
import type { StoredEvent } from "../../tokens/events.ts";
import { time, timestamp } from "../wire.ts";
import { cursorOf } from "./cursor.ts";

/** A stored event as subscribers get it. */
export function eventMessage(event: StoredEvent, identity: string, environment: string): Event {
  return create(EventSchema, {
    id: event.id,
    cursor: cursorOf(identity, event.position),
    type: event.type,
    time: timestamp(event.timeMs),
    environment,
    tenant: event.tenant,
    provider: event.provider,
    accountId: event.accountId,
    tokenName: event.slot,
    client: event.client,
    labels: event.labels,
    reason: event.reason,
    revision: event.revision,
    detail: detailOf(event),
    ...time("endTime", optionalMs(event.detail["ends_at_ms"])),
  });
}

const FAILURES = new Set([
  "integrated_account:refresh_failed",
  "integrated_account:authentication_error",
  "oauth_client:configuration_error",
]);

type Detail = NonNullable<MessageInitShape<typeof EventSchema>["detail"]>;

function detailOf({ type, detail }: StoredEvent): Detail {
  if (type === "kek:rotated") {
    return { case: "kek", value: { kekId: detail.kek_id ?? "", version: Number(detail.version ?? 0) } };
  }
  const generation = BigInt(detail.generation ?? 0);
  const nextRefresh = time("nextRefreshTime", optionalMs(detail.next_refresh_at_ms));
  if (FAILURES.has(type)) {
    const { provider_code: providerCode = "", cause = "" } = detail;
    return { case: "failure", value: { generation, providerCode, cause, ...nextRefresh } };
  }
  if (detail.generation === undefined) return { case: undefined };
  return {
    case: "token",
    value: { generation, ...time("expireTime", optionalMs(detail.expires_at_ms)), ...nextRefresh },
  };
}

function optionalMs(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Number(text);
}
