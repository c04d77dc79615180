import {
  GetKekStatusResponseSchema,
  KeyService,
  RetireKekVersionResponseSchema,
  RewrapKeysResponseSchema,
  RotateKekResponseSchema,
} from "../../gen/keyturn/v1/key_service_pb.js";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { wholeOf } from "../options.ts";
import { Progress } from "../progress.ts";
import { both } from "../when.ts";

const { method } = KeyService;

const AUTHORITY = {
  "authority-file": {
    value: "PATH",
    help: "the key administrator's Vault token; - is stdin; a keyring needs none",
  },
} as const;

const status: Command = {
  name: "keys status",
  summary: "Show the key-encryption key's versions and how much is sealed under each",
  listener: "admin",
  arguments: [],
  options: {},
  examples: [{ line: "keyturn keys status", says: "is a rotation due, and can an old version go" }],
  run: async ({ connect, output, clock }) => {
    const answer = await (await connect()).unary(method.getKekStatus, {});
    if (output.json) {
      output.message(GetKekStatusResponseSchema, answer);
      return EXIT.done;
    }
    output.facts([
      ["key", answer.kekId],
      ["newest version", `${answer.newestVersion}`],
      [
        "rotation",
        answer.rotationDue ? "due: keyturn keys rotate" : "not due",
        answer.rotationDue ? "yellow" : "green",
      ],
    ]);
    output.text("");
    output.table(answer.versions, [
      { title: "VERSION", of: ({ version }) => `${version}`, right: true },
      { title: "CREATED", of: ({ createTime }) => both(createTime, clock.now()) ?? "" },
      { title: "IN USE BY", of: ({ uses }) => `${uses}`, right: true },
      {
        title: "STATE",
        of: ({ version, retired }) =>
          retired ? "retired" : version === answer.newestVersion ? "newest" : "old",
      },
    ]);
    return EXIT.done;
  },
};

const rotate: Command = {
  name: "keys rotate",
  summary: "Make a new version of the key-encryption key",
  listener: "admin",
  arguments: [],
  options: AUTHORITY,
  about: "What is sealed from now on uses it; `keys rewrap` brings the rest under it.",
  examples: [
    { line: "keyturn keys rotate && keyturn keys rewrap", says: "the whole rotation" },
    { line: "vault print token | keyturn keys rotate --authority-file -", says: "of a key in Vault Transit" },
  ],
  run: async ({ connect, output, readSecret }) => {
    const authority = (await readSecret("authority-file"))?.reveal() ?? "";
    const answer = await (await connect()).unary(method.rotateKek, { authority });
    if (output.json) output.message(RotateKekResponseSchema, answer);
    else output.text(`Version ${answer.version} seals from now on. Next: keyturn keys rewrap`);
    return EXIT.done;
  },
};

const rewrap: Command = {
  name: "keys rewrap",
  summary: "Wrap every data key under the newest version, then verify a sample",
  listener: "admin",
  arguments: [],
  options: { "max-per-second": { value: "N", help: "data keys a second (default: as fast as it goes)" } },
  about: "No read fails meanwhile. Stopped, it goes on where it was when it is run again.",
  examples: [
    { line: "keyturn keys rewrap", says: "with its progress" },
    { line: "keyturn keys rewrap --max-per-second 200 --json", says: "gently; progress as JSON lines" },
  ],
  run: async ({ options, connect, output, io }) => {
    const request = { maxPerSecond: options.whole("max-per-second", 0) };
    const progress = new Progress(io);
    const connection = await connect();
    try {
      for await (const message of connection.stream(method.rewrapKeys, request)) {
        if (output.json) output.message(RewrapKeysResponseSchema, message);
        else progress.show("rewrap", Number(message.done), Number(message.total));
        if (!message.finished) continue;
        progress.end();
        if (!output.json) {
          output.text(
            `${message.done} of ${message.total} data keys rewrapped, ${message.verified} opened to verify.`,
          );
        }
        return message.done < message.total ? EXIT.failed : EXIT.done;
      }
    } finally {
      progress.end();
    }
    output.note("The sidecar ended the stream before it was done; run the command again to go on.");
    return EXIT.failed;
  },
};

const retire: Command = {
  name: "keys retire",
  summary: "End an old key version's use; refused while anything is sealed under it",
  listener: "admin",
  arguments: [{ name: "VERSION" }],
  options: {
    ...AUTHORITY,
    "accept-unseen-journals": { help: "even if gone instances' disks keep answers under it" },
  },
  about:
    "It is refused while anything is sealed under the version, saying what and whose. An instance that is gone without\nhaving said that its journal is empty is named: replay its volume (keyturn journal replay DIR) or accept the loss.",
  examples: [{ line: "keyturn keys retire 1", says: "after `keys status` shows 0 uses" }],
  run: async ({ args, options, connect, output, readSecret }) => {
    const version = wholeOf("VERSION", args[0] ?? "", { min: 1 });
    const authority = (await readSecret("authority-file"))?.reveal() ?? "";
    const answer = await (await connect()).unary(method.retireKekVersion, {
      version,
      authority,
      acceptUnseenJournals: options.has("accept-unseen-journals"),
    });
    if (output.json) output.message(RetireKekVersionResponseSchema, answer);
    else output.text(`Version ${version} is retired.`);
    return EXIT.done;
  },
};

/** The key-encryption key's life. */
export const keyCommands: readonly Command[] = [status, rotate, rewrap, retire];
