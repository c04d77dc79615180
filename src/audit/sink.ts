import type { Writable } from "node:stream";
import type { ChainHead } from "./record.ts";

/** Where the lines go. One call at a time. */
export interface AuditSink {
  /**
   * Resolves when all lines are durable. When it rejects, none of them counts, and the next call starts by removing
   * what of them was written.
   */
  append(lines: Buffer, firstSeq: number, atMs: number): Promise<void>;
  /** Removes what is older; the record of it comes first. Undefined: nothing is. */
  expired(beforeMs: number): Promise<Expired | undefined>;
  close(): Promise<void>;
}

export interface Expired {
  /** The last record that goes. */
  readonly through: ChainHead;
  drop(): Promise<void>;
}

/** A stream, such as stdout: its reader keeps the lines, and nothing can be taken back. */
export function streamSink(stream: Writable): AuditSink {
  // Every write hears of its own failure; without a listener the event would end the process.
  stream.on("error", () => undefined);
  return {
    append: (lines) =>
      new Promise((resolve, reject) => {
        stream.write(lines, (error) => (error ? reject(error) : resolve()));
      }),
    expired: async () => undefined,
    close: async () => undefined,
  };
}
