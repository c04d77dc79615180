import type { DescMessage } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { KeyturnError } from "../errors.ts";
import { AccountRecordSchema } from "../gen/keyturn/storage/v1/account_pb.js";
import { OAuthClientRecordSchema } from "../gen/keyturn/storage/v1/client_pb.js";
import {
  AuditHeadRecordSchema,
  JournalMarkRecordSchema,
  KekFloorRecordSchema,
  MemberRecordSchema,
  RestoreHoldRecordSchema,
  RewrapMarkRecordSchema,
  ShardOwnerRecordSchema,
} from "../gen/keyturn/storage/v1/cluster_pb.js";
import { EventMarkRecordSchema, EventRecordSchema } from "../gen/keyturn/storage/v1/event_pb.js";
import {
  AttemptRecordSchema,
  BreakerRecordSchema,
  BudgetBlockRecordSchema,
  BulkRefreshRecordSchema,
  CooldownRecordSchema,
  HoldRecordSchema,
  LockRecordSchema,
  PermitRecordSchema,
  VerdictMarkRecordSchema,
} from "../gen/keyturn/storage/v1/refresh_pb.js";
import {
  AuthorizationRecordSchema,
  ClientSecretsRecordSchema,
  ContentKeyRecordSchema,
  SealedCredentialRecordSchema,
} from "../gen/keyturn/storage/v1/sealed_pb.js";
import type { EventPosition, NewEvent } from "../tokens/events.ts";
import type { Kind, ValueOf } from "../tokens/records.ts";
import { type MessageCodec, messageCodec } from "./message-codec.ts";

/** What a record's bytes may be. */
export interface Stored {
  event: NewEvent;
  event_mark: EventPosition;
}
type StoredKind = Kind | keyof Stored;
type StoredValue<K extends StoredKind> = K extends Kind
  ? ValueOf<K>
  : K extends keyof Stored
    ? Stored[K]
    : never;

const FORMAT = 1;
const FORMAT_FIELD = 1;
const OPERATION_FIELD = 2;
const HEAD: ReadonlySet<number> = new Set([FORMAT_FIELD, OPERATION_FIELD]);

const SCHEMAS: Readonly<Record<StoredKind, DescMessage>> = {
  account: AccountRecordSchema,
  credential: SealedCredentialRecordSchema,
  attempt: AttemptRecordSchema,
  hold: HoldRecordSchema,
  lock: LockRecordSchema,
  client: OAuthClientRecordSchema,
  client_secrets: ClientSecretsRecordSchema,
  content_key: ContentKeyRecordSchema,
  permit: PermitRecordSchema,
  budget: BudgetBlockRecordSchema,
  cooldown: CooldownRecordSchema,
  verdict: VerdictMarkRecordSchema,
  breaker: BreakerRecordSchema,
  authorization: AuthorizationRecordSchema,
  member: MemberRecordSchema,
  shard: ShardOwnerRecordSchema,
  audit_head: AuditHeadRecordSchema,
  journal_mark: JournalMarkRecordSchema,
  restore_hold: RestoreHoldRecordSchema,
  kek_floor: KekFloorRecordSchema,
  rewrap: RewrapMarkRecordSchema,
  bulk_refresh: BulkRefreshRecordSchema,
  event: EventRecordSchema,
  event_mark: EventMarkRecordSchema,
};

const codecs = new Map<StoredKind, MessageCodec>();

// Made when first needed: most starts need a few of them.
function codecOf(kind: StoredKind): MessageCodec {
  const made = codecs.get(kind) ?? messageCodec(SCHEMAS[kind], HEAD);
  codecs.set(kind, made);
  return made;
}

/**
 * A record as bytes, `operation` being the nonce of the transaction that writes it. Fields of a newer version that the
 * value, or the value it was spread from, was read with are written again.
 */
export function encode<K extends StoredKind>(kind: K, value: StoredValue<K>, operation: string): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(FORMAT_FIELD, WireType.Varint).uint32(FORMAT);
  writer.tag(OPERATION_FIELD, WireType.LengthDelimited).string(operation);
  try {
    codecOf(kind).write(writer, value);
    return writer.finish();
  } catch (error) {
    throw new KeyturnError("INTERNAL_ERROR", `A ${kind} record cannot be written.`, { cause: error });
  }
}

/** INTERNAL_ERROR when the bytes are of a format that this version does not know, or of none; `path` is for people. */
export function decode<K extends StoredKind>(kind: K, bytes: Uint8Array, path: string): StoredValue<K> {
  const { format } = headOf(bytes, path);
  if (format !== FORMAT) {
    throw new KeyturnError(
      "INTERNAL_ERROR",
      `The record ${path} has format ${format}; this version knows only ${FORMAT}. A newer Keyturn wrote it: use that one.`,
      { metadata: { cause: "record_format_unknown", record: path, format: String(format) } },
    );
  }
  try {
    // Its members are those of the schema, which mirrors the type.
    return codecOf(kind).read(new BinaryReader(bytes), bytes.length) as StoredValue<K>;
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** Nonce of the transaction that wrote these bytes. */
export function operationOf(bytes: Uint8Array, path: string): string {
  return headOf(bytes, path).operation;
}

function headOf(bytes: Uint8Array, path: string): { readonly format: number; readonly operation: string } {
  let format: number | undefined;
  let operation: string | undefined;
  try {
    const reader = new BinaryReader(bytes);
    while (reader.pos < bytes.length && (format === undefined || operation === undefined)) {
      const [number, wire] = reader.tag();
      if (number === FORMAT_FIELD) format = reader.uint32();
      else if (number === OPERATION_FIELD) operation = reader.string();
      else reader.skip(wire, number);
    }
  } catch (error) {
    throw unreadable(path, error);
  }
  return { format: format ?? 0, operation: operation ?? "" };
}

function unreadable(path: string, error: unknown): KeyturnError {
  return new KeyturnError("INTERNAL_ERROR", `The record ${path} is damaged and cannot be read.`, {
    metadata: { cause: "record_damaged", record: path },
    cause: error,
  });
}
