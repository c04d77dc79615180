import { create } from "@bufbuild/protobuf";
import { invalid } from "../../errors.ts";
import {
  GetKekStatusResponseSchema,
  KeyService,
  RetireKekVersionResponseSchema,
  RewrapKeysResponseSchema,
  RotateKekResponseSchema,
} from "../../gen/keyturn/v1/key_service_pb.js";
import type { Keys } from "../../tokens/keys.ts";
import { Secret } from "../../tokens/secret.ts";
import { type Handlers, stream, unary } from "../call.ts";
import { time } from "../wire.ts";

/** The key-encryption key's life. */
export function keyHandlers(keys: Keys): Handlers {
  return {
    getKekStatus: unary(KeyService.method.getKekStatus, async () => {
      const { kekId, newest, versions, rotationDue } = await keys.status();
      return create(GetKekStatusResponseSchema, {
        kekId,
        newestVersion: newest,
        rotationDue,
        versions: versions.map(({ version, createdAtMs, retired, uses }) => ({
          version,
          ...time("createTime", createdAtMs),
          retired,
          uses: BigInt(uses),
        })),
      });
    }),
    rotateKek: unary(KeyService.method.rotateKek, async ({ authority }) =>
      create(RotateKekResponseSchema, { version: await keys.rotate(authorityOf(authority)) }),
    ),
    rewrapKeys: stream(KeyService.method.rewrapKeys, async ({ maxPerSecond }, call, send) => {
      if (maxPerSecond < 0) throw invalid("max_per_second", "zero or more");
      const actor = { caller: call.caller.name, purpose: "rewrap" };
      for await (const progress of keys.rewrap(actor, maxPerSecond, call.signal)) {
        const { toVersion, done, total, verified, finished } = progress;
        for (const [name, count] of Object.entries({ to_version: toVersion, done, total, verified }))
          call.notes[name] = String(count);
        const counts = { done: BigInt(done), total: BigInt(total), verified: BigInt(verified) };
        await send(create(RewrapKeysResponseSchema, { ...counts, finished }));
      }
    }),
    retireKekVersion: unary(KeyService.method.retireKekVersion, async (request) => {
      const { version, acceptUnseenJournals: acceptUnseen, authority } = request;
      await keys.retire(version, { acceptUnseen, authority: authorityOf(authority) });
      return create(RetireKekVersionResponseSchema);
    }),
  };
}

function authorityOf(text: string): Secret | undefined {
  return text === "" ? undefined : new Secret(text);
}
