import { BlockList, isIP } from "node:net";

/** What the egress guard thinks of an IP address. `forbidden` is never dialled, whatever is permitted. */
export type AddressClass = "public" | "loopback" | "private" | "forbidden";

/** The addresses beyond the public internet that one provider's requests may reach. */
export interface Permits {
  /** The provider file permits loopback; plain http is then permitted too, to loopback only. */
  readonly allowLoopback: boolean;
  /** The operator permits private networks (RFC 1918, RFC 6598, RFC 4193) for this provider. */
  readonly allowPrivate?: boolean | undefined;
}

type Subnet = readonly [network: string, prefixBits: number];

const PRIVATE_V4: readonly Subnet[] = [
  ["10.0.0.0", 8],
  ["172.16.0.0", 12],
  ["192.168.0.0", 16],
  ["100.64.0.0", 10], // carrier-grade NAT
];

const FORBIDDEN_V4: readonly Subnet[] = [
  ["0.0.0.0", 8], // "this network": Linux dials itself
  ["169.254.0.0", 16], // link-local, with the metadata service of most clouds
  ["100.100.100.200", 32], // metadata, Alibaba
  ["168.63.129.16", 32], // metadata, Azure
  ["192.0.0.0", 24], // protocol assignments, with the metadata service of Oracle
  ["192.0.2.0", 24], // documentation
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["192.88.99.0", 24], // 6to4 relays
  ["198.18.0.0", 15], // benchmarks
  ["224.0.0.0", 4], // multicast
  ["240.0.0.0", 4], // reserved, and broadcast
];

const PRIVATE_V6: readonly Subnet[] = [["fc00::", 7]];

// IPv6 outside of these is never public: mapped, compatible, site-local, link-local, multicast, unspecified.
const NAT64: Subnet = ["64:ff9b::", 96];
const GLOBAL_V6: readonly Subnet[] = [["2000::", 3], NAT64];

const FORBIDDEN_V6: readonly Subnet[] = [
  ["fd00:ec2::", 32], // metadata, AWS
  ["fd20:ce::", 32], // metadata of another cloud
  ["2001::", 23], // protocol assignments: Teredo, benchmarks, ORCHID
  ["2001:db8::", 32], // documentation
  ["3fff::", 20],
  ["2002::", 16], // 6to4, which hides an IPv4 address
];

// A NAT64 gateway dials the IPv4 address in the last 32 bits, so that one is what has to be judged.
function throughNat64(subnets: readonly Subnet[]): readonly Subnet[] {
  return subnets.map(([network, prefixBits]) => [`64:ff9b::${network}`, 96 + prefixBits]);
}

function listOf(v4: readonly Subnet[], v6: readonly Subnet[]): BlockList {
  const list = new BlockList();
  for (const [network, prefixBits] of v4) list.addSubnet(network, prefixBits, "ipv4");
  for (const [network, prefixBits] of v6) list.addSubnet(network, prefixBits, "ipv6");
  return list;
}

const LOOPBACK_V4: readonly Subnet[] = [["127.0.0.0", 8]];
const LOOPBACK = listOf(LOOPBACK_V4, [["::1", 128]]);
const PRIVATE = listOf(PRIVATE_V4, [...PRIVATE_V6, ...throughNat64(PRIVATE_V4)]);
const FORBIDDEN = listOf(FORBIDDEN_V4, [
  ...FORBIDDEN_V6,
  ...throughNat64(FORBIDDEN_V4),
  ...throughNat64(LOOPBACK_V4),
]);
const GLOBAL = listOf([], GLOBAL_V6);
const MAPPED = listOf([], [["::ffff:0.0.0.0", 96]]);

/** Sorts an address in text form; what is no plain IP address (a name, a zone suffix) is `forbidden`. */
export function classifyAddress(address: string): AddressClass {
  const version = isIP(address);
  if (version === 0 || address.includes("%")) return "forbidden";
  const family = version === 4 ? "ipv4" : "ipv6";
  // BlockList judges ::ffff:a.b.c.d by its IPv4 rules; as an address of the wire it is never legitimate.
  if (version === 6 && MAPPED.check(address, family)) return "forbidden";
  if (FORBIDDEN.check(address, family)) return "forbidden";
  if (LOOPBACK.check(address, family)) return "loopback";
  if (PRIVATE.check(address, family)) return "private";
  return version === 4 || GLOBAL.check(address, family) ? "public" : "forbidden";
}

/** True when `address` may be dialled; over plain http (`secure` false) that is loopback alone. */
export function addressAllowed(address: string, secure: boolean, permits: Permits): boolean {
  switch (classifyAddress(address)) {
    case "public":
      return secure;
    case "loopback":
      return permits.allowLoopback;
    case "private":
      return secure && permits.allowPrivate === true;
    case "forbidden":
      return false;
  }
}
