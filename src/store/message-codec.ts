import type { DescEnum, DescField, DescMessage } from "@bufbuild/protobuf";
import { ScalarType } from "@bufbuild/protobuf";
import { type BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

/**
 * Turns protobuf into the plain records of `tokens/` and back, driven by the generated descriptors: a field `expires_at_ms`
 * is the member `expiresAtMs`, an absent optional one is undefined, an enum value `SLOT_STATUS_NEEDS_REAUTH` is
 * `"needs_reauth"`, int64 is a number. It goes from bytes to record in one step, because a start reads every account.
 */
export interface MessageCodec {
  write(writer: BinaryWriter, value: object, carried?: Unknown): void;
  read(reader: BinaryReader, end: number): object;
}

/** Fields of a newer version, found in a message and in the messages under it, by member name (and map key). */
interface Unknown {
  readonly raw: readonly Uint8Array[];
  readonly under: ReadonlyMap<string, Unknown>;
}

// A symbol, so that `{ ...record, changed }` carries it, while JSON and Object.keys do not see it.
const UNKNOWN = Symbol("fields of a newer version");
type Carrying = { readonly [UNKNOWN]?: Unknown };
const carriedBy = (value: object): Unknown | undefined => (value as Carrying)[UNKNOWN];

type Members = Record<string, unknown>;
type Write = (writer: BinaryWriter, value: unknown, carried: Unknown | undefined) => void;
type Read = (reader: BinaryReader) => unknown;
interface ValueCodec {
  readonly wire: WireType;
  readonly write: Write;
  readonly read: Read;
  readonly zero: unknown;
}
interface FieldCodec {
  readonly name: string;
  /** Fresh for each message: lists and maps are filled. */
  readonly absent: () => unknown;
  readonly write: Write;
  readonly read: (reader: BinaryReader, into: Members, wire: WireType) => void;
}

/** `without`: numbers of fields that are not the record's own. */
export function messageCodec(desc: DescMessage, without: ReadonlySet<number> = new Set()): MessageCodec {
  const fields = new Map(
    desc.fields
      .filter(({ number }) => !without.has(number))
      .map((field) => [field.number, fieldCodec(field)]),
  );
  const known = new Set([...fields.values()].map(({ name }) => name));
  const inOrder = [...fields.values()];
  const nesting = desc.fields
    .filter(({ fieldKind, message }) => fieldKind !== "list" && message !== undefined)
    .map(({ localName }) => localName);
  return {
    write(writer, value, carried) {
      for (const name in value) {
        if (!known.has(name)) throw new TypeError(`${desc.typeName} has no member "${name}"`);
      }
      const unknown = carriedBy(value) ?? carried;
      for (const field of inOrder) {
        field.write(writer, (value as Members)[field.name], unknown?.under.get(field.name));
      }
      for (const raw of unknown?.raw ?? []) writer.raw(raw);
    },
    read(reader, end) {
      const value: Members = {};
      for (const field of inOrder) value[field.name] = field.absent();
      const raw: Uint8Array[] = [];
      while (reader.pos < end) {
        const [number, wire] = reader.tag();
        const field = fields.get(number);
        if (field !== undefined) field.read(reader, value, wire);
        else {
          const bytes = reader.skip(wire, number);
          if (!without.has(number)) raw.push(new BinaryWriter().tag(number, wire).raw(bytes).finish());
        }
      }
      return raw.length + nesting.length === 0 ? value : withUnknown(value, nesting, raw);
    },
  };
}

/** `nesting`: members that hold messages by name. Elements of a list keep their own: their places change. */
function withUnknown(value: Members, nesting: readonly string[], raw: readonly Uint8Array[]): object {
  const under = nesting.flatMap((name): (readonly [string, Unknown])[] => {
    const member = value[name];
    const found = typeof member === "object" && member !== null ? carriedBy(member) : undefined;
    return found === undefined ? [] : [[name, found]];
  });
  if (raw.length === 0 && under.length === 0) return value;
  return { ...value, [UNKNOWN]: { raw, under: new Map(under) } };
}

function fieldCodec(field: DescField): FieldCodec {
  switch (field.fieldKind) {
    case "list":
      return listCodec(field);
    case "map":
      return mapCodec(field);
    default:
      return singleCodec(field);
  }
}

function singleCodec(field: Extract<DescField, { fieldKind: "scalar" | "enum" | "message" }>): FieldCodec {
  const { localName: name, number } = field;
  const codec = valueCodec(field);
  const isOptional = field.proto.proto3Optional || field.fieldKind === "message";
  const absent = isOptional ? undefined : codec.zero;
  return {
    name,
    absent: () => absent,
    write(writer, value, carried) {
      if (value === absent) return;
      codec.write(writer.tag(number, codec.wire), value, carried);
    },
    read(reader, into, wire) {
      expectWire(name, wire, codec.wire);
      into[name] = codec.read(reader);
    },
  };
}

function listCodec(field: Extract<DescField, { fieldKind: "list" }>): FieldCodec {
  const { localName: name, number } = field;
  const codec = valueCodec(field);
  if (codec.wire !== WireType.LengthDelimited)
    throw new TypeError(`${name}: numbers in a list are not stored`);
  return {
    name,
    absent: () => [],
    write(writer, value) {
      for (const item of value as readonly unknown[]) {
        codec.write(writer.tag(number, codec.wire), item, undefined);
      }
    },
    read(reader, into, wire) {
      expectWire(name, wire, codec.wire);
      (into[name] as unknown[]).push(codec.read(reader));
    },
  };
}

function mapCodec(field: Extract<DescField, { fieldKind: "map" }>): FieldCodec {
  const { localName: name, number } = field;
  const codec = valueCodec(field);
  return {
    name,
    absent: () => ({}),
    write(writer, value, carried) {
      for (const [key, item] of Object.entries(value as Members)) {
        writer.tag(number, WireType.LengthDelimited).fork();
        writer.tag(1, WireType.LengthDelimited).string(key);
        codec.write(writer.tag(2, codec.wire), item, carried?.under.get(key));
        writer.join();
      }
    },
    read(reader, into, wire) {
      expectWire(name, wire, WireType.LengthDelimited);
      const [key, item] = readEntry(reader, codec);
      const map = into[name] as Members & Carrying;
      // Not an assignment: a key `__proto__` is a key like any other.
      Object.defineProperty(map, key, { value: item, enumerable: true, configurable: true, writable: true });
      const found = typeof item === "object" && item !== null ? carriedBy(item) : undefined;
      if (found !== undefined) {
        into[name] = {
          ...map,
          [UNKNOWN]: { raw: [], under: new Map([...(map[UNKNOWN]?.under ?? []), [key, found]]) },
        };
      }
    },
  };
}

function readEntry(reader: BinaryReader, codec: ValueCodec): readonly [string, unknown] {
  const length = reader.uint32();
  const end = reader.pos + length;
  let key = "";
  let item = codec.zero;
  while (reader.pos < end) {
    const [number, wire] = reader.tag();
    if (number === 1) key = reader.string();
    else if (number === 2) item = codec.read(reader);
    else reader.skip(wire, number);
  }
  return [key, item];
}

type Valued = {
  readonly scalar: ScalarType | undefined;
  readonly message?: unknown;
  readonly enum?: unknown;
};

function valueCodec(field: Valued & DescField): ValueCodec {
  if (field.message !== undefined) return nestedCodec(field.message);
  if (field.enum !== undefined) return enumCodec(field.enum);
  const codec = field.scalar === undefined ? undefined : SCALARS[field.scalar];
  if (codec === undefined) throw new TypeError(`${field.name}: no record is stored with such a field`);
  return codec;
}

function nestedCodec(desc: DescMessage): ValueCodec {
  const codec = messageCodec(desc);
  return {
    wire: WireType.LengthDelimited,
    zero: undefined,
    write(writer, value, carried) {
      codec.write(writer.fork(), value as object, carried);
      writer.join();
    },
    read(reader) {
      const length = reader.uint32();
      return codec.read(reader, reader.pos + length);
    },
  };
}

function enumCodec(desc: DescEnum): ValueCodec {
  const prefix = desc.sharedPrefix?.length ?? 0;
  const names = new Map(desc.values.map(({ name, number }) => [number, name.slice(prefix).toLowerCase()]));
  const numbers = new Map([...names].map(([number, name]) => [name, number]));
  return {
    wire: WireType.Varint,
    // Never a value of a record: it is always written.
    zero: undefined,
    write(writer, value) {
      const number = numbers.get(String(value));
      if (number === undefined) throw new TypeError(`${desc.typeName} has no value "${value}"`);
      writer.int32(number);
    },
    read(reader) {
      const number = reader.int32();
      const name = names.get(number);
      if (name === undefined) throw new TypeError(`${desc.typeName} has no value ${number}`);
      return name;
    },
  };
}

const SCALARS: Readonly<Partial<Record<ScalarType, ValueCodec>>> = {
  [ScalarType.STRING]: {
    wire: WireType.LengthDelimited,
    zero: "",
    write: (writer, value) => writer.string(value as string),
    read: (reader) => reader.string(),
  },
  [ScalarType.BYTES]: {
    wire: WireType.LengthDelimited,
    zero: new Uint8Array(0),
    write: (writer, value) => writer.bytes(value as Uint8Array),
    read: (reader) => reader.bytes(),
  },
  [ScalarType.BOOL]: {
    wire: WireType.Varint,
    zero: false,
    write: (writer, value) => writer.bool(value as boolean),
    read: (reader) => reader.bool(),
  },
  [ScalarType.UINT32]: {
    wire: WireType.Varint,
    zero: 0,
    write: (writer, value) => writer.uint32(value as number),
    read: (reader) => reader.uint32(),
  },
  [ScalarType.INT64]: {
    wire: WireType.Varint,
    zero: 0,
    // Jittered times have fractions of a millisecond.
    write: (writer, value) => writer.int64(Math.round(value as number)),
    read: (reader) => Number(reader.int64()),
  },
  [ScalarType.DOUBLE]: {
    wire: WireType.Bit64,
    zero: 0,
    write: (writer, value) => writer.double(value as number),
    read: (reader) => reader.double(),
  },
};

function expectWire(name: string, wire: WireType, expected: WireType): void {
  if (wire !== expected) throw new TypeError(`${name} has wire type ${wire}, not ${expected}`);
}
