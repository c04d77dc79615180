import { createServer, type Socket } from "node:net";
import { onTestFinished } from "vitest";
import { listening } from "../../egress/servers.ts";

/** A TCP port on loopback in an API's place, for a test; `open`: its connections. */
export async function rawServer(
  onSocket: (socket: Socket) => void,
): Promise<{ readonly port: number; readonly open: ReadonlySet<Socket> }> {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => open.delete(socket));
    onSocket(socket);
  });
  onTestFinished(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  return { port: await listening(server), open };
}
