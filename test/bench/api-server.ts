import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

// A provider's API that costs as little as it can: GET /bytes/N answers N bytes, PUT takes whatever comes.

const CHUNK = Buffer.alloc(65_536, "x");

const server = createServer((request, response) => {
  if (request.method === "PUT") {
    request.resume().on("end", () => response.end());
    return;
  }
  let left = Number(/\/bytes\/(\d+)/.exec(request.url ?? "")?.[1] ?? 0);
  response.writeHead(200, { "content-type": "application/octet-stream", "content-length": left });
  const write = () => {
    while (left > 0) {
      const part = left >= CHUNK.length ? CHUNK : CHUNK.subarray(0, left);
      left -= part.length;
      if (!response.write(part) && left > 0) {
        response.once("drain", write);
        return;
      }
    }
    response.end();
  };
  write();
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => {
  process.stdout.write(`port ${(server.address() as AddressInfo).port}\n`);
});
