import { createServer, connect as dial, type Socket } from "node:net";

/** A TCP proxy that can stop forwarding, as a network does that drops every packet: nothing is closed. */
export interface StallingProxy {
  readonly port: number;
  /** Nothing goes through any more, in either direction, on old and new connections. */
  stall(): void;
  /** Nothing goes through any more on the connections there are; new ones work. */
  stallThoseOpen(): void;
  /** What was held back goes through. */
  resume(): void;
  /** Ends every connection. */
  reset(): void;
  close(): Promise<void>;
}

/** Forwards a free port of 127.0.0.1 to `port`. Close it. */
export async function startStallingProxy(port: number): Promise<StallingProxy> {
  const sockets = new Set<Socket>();
  let isStalled = false;
  const server = createServer((near) => {
    const far = dial(port, "127.0.0.1");
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
      if (isStalled) socket.pause();
    }
    near.on("data", (chunk) => far.write(chunk));
    far.on("data", (chunk) => near.write(chunk));
    if (isStalled) for (const socket of [near, far]) socket.pause();
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    stall: () => {
      isStalled = true;
      for (const socket of sockets) socket.pause();
    },
    stallThoseOpen: () => {
      for (const socket of sockets) socket.pause();
    },
    resume: () => {
      isStalled = false;
      for (const socket of sockets) socket.resume();
    },
    reset: () => {
      for (const socket of sockets) socket.destroy();
    },
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
