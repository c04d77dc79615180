// A token endpoint that grants whatever it is asked, as cheaply as it can: node any-vendor.ts. Prints its port.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

let requests = 0;
let running = 0;
let mostAtOnce = 0;

const server = createServer((request, response) => {
  if (request.method === "GET") {
    response.end(JSON.stringify({ requests, mostAtOnce }));
    return;
  }
  requests += 1;
  running += 1;
  mostAtOnce = Math.max(mostAtOnce, running);
  response.on("close", () => {
    running -= 1;
  });
  const serial = String(requests);
  request.resume().on("end", () => {
    const tokens = { access_token: `access-${serial}`.padEnd(600, "x"), refresh_token: `refresh-${serial}` };
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ ...tokens, token_type: "Bearer", expires_in: 7_200 }));
  });
});
server.listen(0, "127.0.0.1", () => process.stdout.write(`port ${(server.address() as AddressInfo).port}\n`));
