import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import fc from "fast-check";

/** Deeper messages stay absent. */
const DEPTH = 4;
const WHOLE_NUMBERS = [0, 1, -1, 7, 2_147_483_647, -2_147_483_648];
const LARGE_NUMBERS = [0n, 1n, -1n, 253_402_300_800n, -62_135_596_801n, 2n ** 63n - 1n, -(2n ** 63n)];

const text = fc.oneof(
  fc.constantFrom(
    "",
    " ",
    "acme",
    "simulator",
    "main",
    "default",
    "-",
    "*",
    "..",
    "../../etc/passwd",
    "/",
    "__proto__",
    "constructor",
    "a\u0000b",
    "a\r\nb: c",
    "\u001b[2J\u202e",
    "\uD800",
    "%2e%2e",
    "${port}",
    "https://user@[::1]:99999/#",
    "9".repeat(400),
    "x".repeat(129),
    "é".repeat(70_000),
  ),
  fc.string({ unit: "binary", maxLength: 64 }),
);

/** Any message of a type, in the shape that `create` takes: known names, hostile ones, numbers out of every range. */
export function arbitraryMessage(desc: DescMessage, depth = 0): fc.Arbitrary<Record<string, unknown>> {
  const members = desc.members.flatMap((member): [string, fc.Arbitrary<unknown>][] => {
    if (member.kind !== "oneof") {
      const value = fieldValue(member, depth);
      return value === undefined ? [] : [[member.localName, value]];
    }
    const cases = member.fields.flatMap((field) => {
      const value = fieldValue(field, depth);
      return value === undefined ? [] : [fc.record({ case: fc.constant(field.localName), value })];
    });
    return cases.length === 0 ? [] : [[member.localName, fc.oneof(...cases)]];
  });
  return fc.record(Object.fromEntries(members), { requiredKeys: [] });
}

/** Undefined: too deep. */
function fieldValue(field: DescField, depth: number): fc.Arbitrary<unknown> | undefined {
  const one = elementOf(field, depth);
  if (one === undefined) return undefined;
  if (field.fieldKind === "list") return fc.array(one, { maxLength: 3 });
  if (field.fieldKind !== "map") return one;
  return fc.dictionary(fc.oneof(text, fc.constant("k")), one, { maxKeys: 3, noNullPrototype: true });
}

function elementOf(field: DescField, depth: number): fc.Arbitrary<unknown> | undefined {
  if (field.message !== undefined) {
    if (field.message.typeName === "google.protobuf.Struct")
      return fc.dictionary(fc.constantFrom("a", "b"), fc.jsonValue({ maxDepth: 2 }), {
        noNullPrototype: true,
      });
    return depth >= DEPTH || field.message.typeName === "google.protobuf.Any"
      ? undefined
      : arbitraryMessage(field.message, depth + 1);
  }
  if (field.enum !== undefined)
    return fc.oneof(
      fc.constantFrom(...field.enum.values.map(({ number }) => number)),
      fc.constantFrom(...WHOLE_NUMBERS),
    );
  return field.scalar === undefined ? undefined : scalar(field.scalar);
}

function scalar(type: ScalarType): fc.Arbitrary<unknown> | undefined {
  switch (type) {
    case ScalarType.STRING:
      return text;
    case ScalarType.BOOL:
      return fc.boolean();
    case ScalarType.BYTES:
      return fc.oneof(fc.uint8Array({ maxLength: 32 }), fc.constant(new Uint8Array(100_000)));
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
      return fc.constantFrom(...WHOLE_NUMBERS);
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return fc.constantFrom(0, 1, 4_294_967_295);
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return fc.constantFrom(...LARGE_NUMBERS);
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return fc.constantFrom(0n, 1n, 2n ** 64n - 1n);
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return fc.constantFrom(0, -1, Number.NaN, Number.POSITIVE_INFINITY);
    default:
      return undefined;
  }
}
