import { request as httpRequest, type RequestOptions } from "node:http";

/** How long each call took, in milliseconds, with `inFlight` of them at any time. Rejects at the first failure. */
export async function latencies(
  call: () => Promise<void>,
  { inFlight, forMs }: { readonly inFlight: number; readonly forMs: number },
): Promise<readonly number[]> {
  const taken: number[] = [];
  const untilMs = performance.now() + forMs;
  const worker = async () => {
    while (performance.now() < untilMs) {
      const startMs = performance.now();
      await call();
      taken.push(performance.now() - startMs);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  return taken;
}

/** One HTTP exchange; rejects unless it is answered with 200. */
export function exchange(options: RequestOptions, body?: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(options, (response) => {
      response.resume().on("end", () => {
        if (response.statusCode === 200) resolve();
        else reject(new Error(`answered with ${response.statusCode}`));
      });
    });
    request.on("error", reject).end(body);
  });
}
