import { describe, expect, it } from "vitest";
import { startEnvoy } from "./envoy.ts";
import { startEtcd } from "./etcd.ts";
import { startOpenBao } from "./openbao.ts";
import { OLDEST_ETCD } from "./parts.ts";
import { freePort } from "./ports.ts";

const base64 = (text: string) => Buffer.from(text).toString("base64");

describe("the real parts", () => {
  it("etcd keeps its data over kill -9 and comes back on the same port", async () => {
    await using etcd = await startEtcd();
    await etcd.call("kv/put", { key: base64("a"), value: base64("b") });
    await etcd.only.kill();
    await etcd.only.restart();
    const { kvs } = await etcd.call("kv/range", { key: base64("a") });
    expect(kvs).toMatchObject([{ value: base64("b") }]);
  });

  it("three etcds elect another leader when theirs is killed", async () => {
    await using etcd = await startEtcd({ members: 3 });
    const leader = await etcd.leader();
    await leader.kill();
    await expect.poll(async () => (await etcd.leader()).url, { timeout: 10_000 }).not.toBe(leader.url);
    await etcd.call("kv/put", { key: base64("a"), value: base64("b") });
  });

  it("the oldest etcd is 3.4", async () => {
    await using etcd = await startEtcd({ part: OLDEST_ETCD });
    const { etcdserver } = (await (await fetch(`${etcd.only.url}/version`)).json()) as Record<string, string>;
    expect(etcdserver).toMatch(/^3\.4\./);
  });

  it("OpenBao wraps with Transit, and still does after kill -9", async () => {
    await using bao = await startOpenBao();
    await bao.act("POST", "transit/keys/keyturn");
    const { data } = await bao.act("POST", "transit/encrypt/keyturn", { plaintext: base64("dek") });
    await bao.kill();
    await bao.restart();
    const { ciphertext } = data as { readonly ciphertext: string };
    const opened = await bao.act("POST", "transit/decrypt/keyturn", { ciphertext });
    expect(opened.data).toEqual({ plaintext: base64("dek") });
    await bao.seal();
    const sealed = await bao.request("POST", "transit/decrypt/keyturn", { ciphertext });
    expect(sealed.status).toBe(503);
  });

  it("Envoy answers on a listener that its bootstrap names", async () => {
    const port = await freePort();
    const manager = {
      "@type":
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
      stat_prefix: "test",
      route_config: {
        virtual_hosts: [
          {
            name: "all",
            domains: ["*"],
            routes: [
              { match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: "hello" } } },
            ],
          },
        ],
      },
      http_filters: [
        {
          name: "router",
          typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        },
      ],
    };
    const listener = {
      address: { socket_address: { address: "127.0.0.1", port_value: port } },
      filter_chains: [{ filters: [{ name: "http", typed_config: manager }] }],
    };
    await using _envoy = await startEnvoy({ static_resources: { listeners: [listener] } });
    expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toBe("hello");
  });
});
