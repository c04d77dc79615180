import { get as httpGet } from "node:http";
import { get as httpsGet } from "node:https";
import type { EtcdAccess } from "./access.ts";
import { DEADLINE_MS } from "./client.ts";

const LEAST_QUOTA_BYTES = 4 * 1024 ** 3;
/** Five minutes of a busy cluster's writes, several times over: more history than this is not compacted by itself. */
const MOST_HISTORY = 250_000;
const MOST_METRICS_BYTES = 4 * 1_048_576;

/** What etcd says of itself; undefined: it does not. */
export interface Upkeep {
  readonly quotaBytes: number | undefined;
  readonly revision: number | undefined;
  readonly compactedRevision: number | undefined;
}

/**
 * From `/metrics` of one endpoint, the only place where an etcd of every version tells its quota. Rejects when that
 * endpoint does not serve it.
 */
export async function upkeepOf(access: EtcdAccess): Promise<Upkeep> {
  const text = await metricsOf(access);
  const value = (name: string) => {
    const found = new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1];
    return found === undefined ? undefined : Number(found);
  };
  return {
    quotaBytes: value("etcd_server_quota_backend_bytes"),
    revision: value("etcd_debugging_mvcc_current_revision"),
    compactedRevision: value("etcd_debugging_mvcc_compact_revision"),
  };
}

/** What an operator should change, a sentence each. */
export function upkeepFaults({ quotaBytes, revision, compactedRevision }: Upkeep): readonly string[] {
  const faults: string[] = [];
  if (quotaBytes !== undefined && quotaBytes < LEAST_QUOTA_BYTES) {
    const mib = Math.round(quotaBytes / 1_048_576);
    faults.push(`etcd's quota is ${mib} MiB; 100,000 accounts want --quota-backend-bytes=4294967296 or more`);
  }
  const history = (revision ?? 0) - (compactedRevision ?? 0);
  if (history > MOST_HISTORY) {
    faults.push(
      `etcd keeps ${history} revisions of history; it wants --auto-compaction-retention=5m or shorter`,
    );
  }
  return faults;
}

function metricsOf({ endpoints, tls }: EtcdAccess): Promise<string> {
  const [endpoint = ""] = endpoints;
  const get = endpoint.startsWith("https:") ? httpsGet : httpGet;
  const options = {
    agent: false,
    signal: AbortSignal.timeout(DEADLINE_MS),
    ...(tls === undefined ? {} : { ca: tls.authority, cert: tls.certificate, key: tls.key }),
  };
  return new Promise((resolve, reject) => {
    get(`${endpoint}/metrics`, options, (answer) => {
      if (answer.statusCode !== 200) {
        answer.destroy();
        return reject(new Error(`etcd answered ${answer.statusCode} to /metrics`));
      }
      let text = "";
      answer.setEncoding("utf8");
      answer.on("data", (chunk: string) => {
        text += chunk;
        if (text.length > MOST_METRICS_BYTES) answer.destroy(new Error("too long"));
      });
      answer.on("end", () => resolve(text));
      answer.on("error", reject);
    }).on("error", reject);
  });
}
