import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { addressAllowed, classifyAddress } from "../../src/egress/addresses.ts";

describe("classifyAddress", () => {
  it.each([
    ["0.0.0.0", "forbidden"],
    ["0.255.255.255", "forbidden"],
    ["1.0.0.0", "public"],
    ["9.255.255.255", "public"],
    ["10.0.0.0", "private"],
    ["10.255.255.255", "private"],
    ["11.0.0.0", "public"],
    ["100.63.255.255", "public"],
    ["100.64.0.0", "private"],
    ["100.100.100.200", "forbidden"],
    ["100.127.255.255", "private"],
    ["100.128.0.0", "public"],
    ["126.255.255.255", "public"],
    ["127.0.0.1", "loopback"],
    ["127.255.255.255", "loopback"],
    ["128.0.0.0", "public"],
    ["168.63.129.16", "forbidden"],
    ["169.253.255.255", "public"],
    ["169.254.0.0", "forbidden"],
    ["169.254.169.254", "forbidden"],
    ["169.255.0.0", "public"],
    ["172.15.255.255", "public"],
    ["172.16.0.0", "private"],
    ["172.31.255.255", "private"],
    ["172.32.0.0", "public"],
    ["192.0.0.192", "forbidden"],
    ["192.0.2.1", "forbidden"],
    ["192.88.99.1", "forbidden"],
    ["192.168.0.1", "private"],
    ["192.169.0.0", "public"],
    ["198.17.255.255", "public"],
    ["198.18.0.0", "forbidden"],
    ["198.19.255.255", "forbidden"],
    ["198.51.100.7", "forbidden"],
    ["203.0.113.7", "forbidden"],
    ["223.255.255.255", "public"],
    ["224.0.0.1", "forbidden"],
    ["240.0.0.1", "forbidden"],
    ["255.255.255.255", "forbidden"],
  ])("sorts IPv4 %s as %s", (address, expected) => {
    expect(classifyAddress(address)).toBe(expected);
  });

  it.each([
    ["::", "forbidden"],
    ["::1", "loopback"],
    ["::2", "forbidden"],
    ["::127.0.0.1", "forbidden"],
    ["::ffff:127.0.0.1", "forbidden"],
    ["::ffff:10.0.0.1", "forbidden"],
    ["::ffff:8.8.8.8", "forbidden"],
    ["::ffff:0:8.8.8.8", "forbidden"],
    ["64:ff9b::8.8.8.8", "public"],
    ["64:ff9b::10.0.0.1", "private"],
    ["64:ff9b::7f00:1", "forbidden"],
    ["64:ff9b::a9fe:a9fe", "forbidden"],
    ["64:ff9b:1::8.8.8.8", "forbidden"],
    ["100::1", "forbidden"],
    ["2001::1", "forbidden"],
    ["2001:2::1", "forbidden"],
    ["2001:4860:4860::8888", "public"],
    ["2001:db8::1", "forbidden"],
    ["2002:7f00:1::", "forbidden"],
    ["2002:808:808::", "forbidden"],
    ["2606:4700::1111", "public"],
    ["3fff::1", "forbidden"],
    ["4000::1", "forbidden"],
    ["fc00::1", "private"],
    ["fd12:3456::1", "private"],
    ["fd00:ec2::254", "forbidden"],
    ["fd20:ce::254", "forbidden"],
    ["fe80::1", "forbidden"],
    ["fe80::1%eth0", "forbidden"],
    ["2606:4700::1111%eth0", "forbidden"],
    ["fec0::1", "forbidden"],
    ["ff02::1", "forbidden"],
  ])("sorts IPv6 %s as %s", (address, expected) => {
    expect(classifyAddress(address)).toBe(expected);
  });

  it.each(["", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1 ", "[::1]"])(
    "forbids %j, which is no address",
    (text) => {
      expect(classifyAddress(text)).toBe("forbidden");
    },
  );

  it("judges a NAT64 address no milder than the IPv4 address inside it", () => {
    fc.assert(
      fc.property(fc.ipV4(), (address) => {
        const inside = classifyAddress(address);
        expect(classifyAddress(`64:ff9b::${address}`)).toBe(inside === "loopback" ? "forbidden" : inside);
      }),
    );
  });
});

describe("addressAllowed", () => {
  const none = { allowLoopback: false };
  it("lets only public addresses through when nothing is permitted", () => {
    expect(addressAllowed("8.8.8.8", true, none)).toBe(true);
    expect(addressAllowed("127.0.0.1", true, none)).toBe(false);
    expect(addressAllowed("10.0.0.1", true, none)).toBe(false);
  });
  it("keeps the two permits apart, and forbidden addresses out of both", () => {
    expect(addressAllowed("127.0.0.1", true, { allowLoopback: true })).toBe(true);
    expect(addressAllowed("10.0.0.1", true, { allowLoopback: true })).toBe(false);
    expect(addressAllowed("10.0.0.1", true, { allowLoopback: false, allowPrivate: true })).toBe(true);
    expect(addressAllowed("127.0.0.1", true, { allowLoopback: false, allowPrivate: true })).toBe(false);
    expect(addressAllowed("169.254.169.254", true, { allowLoopback: true, allowPrivate: true })).toBe(false);
  });
  it("lets plain http reach loopback alone", () => {
    const all = { allowLoopback: true, allowPrivate: true };
    expect(addressAllowed("127.0.0.1", false, all)).toBe(true);
    expect(addressAllowed("10.0.0.1", false, all)).toBe(false);
    expect(addressAllowed("8.8.8.8", false, all)).toBe(false);
  });
});
