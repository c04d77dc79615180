import { connect, isIPv6, type Socket } from "node:net";

/** Opens a TCP connection to an IP address; rejects when refused or when `signal` aborts first. */
export type Dial = (address: string, port: number, signal: AbortSignal) => Promise<Socket>;

const MAX_ADDRESSES = 8;

/** How long one address may be silent before the next one is tried beside it (RFC 8305 §5). */
const ATTEMPT_DELAY_MS = 250;

/** The machine's own TCP. */
export const tcpDial: Dial = (address, port, signal) =>
  new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(new Error("aborted"));
      return;
    }
    const socket = connect({ host: address, port, noDelay: true, keepAlive: true });
    const abort = (): void => {
      socket.destroy(new Error("aborted"));
    };
    signal.addEventListener("abort", abort, { once: true });
    socket.once("error", (error) => {
      signal.removeEventListener("abort", abort);
      reject(error);
    });
    socket.once("connect", () => {
      signal.removeEventListener("abort", abort);
      resolve(socket);
    });
  });

/** Families in turn, the resolver's first one first (RFC 8305 §4), so that one broken family costs one delay. */
export function interleave(addresses: readonly string[]): readonly string[] {
  const first = addresses.filter((address) => isIPv6(address) === isIPv6(addresses[0] ?? ""));
  const second = addresses.filter((address) => !first.includes(address));
  const mixed = first.flatMap((address, i) => {
    const other = second[i];
    return other === undefined ? [address] : [address, other];
  });
  return [...mixed, ...second.slice(first.length)].slice(0, MAX_ADDRESSES);
}

/** The first of `addresses` to accept; rejects with the last failure when none does. Never dials anything else. */
export function dialFirst(
  dial: Dial,
  addresses: readonly string[],
  port: number,
  signal: AbortSignal,
): Promise<Socket> {
  const targets = interleave(addresses);
  const losers = new AbortController();
  const either = AbortSignal.any([signal, losers.signal]);
  return new Promise((resolve, reject) => {
    let started = 0;
    let open = 0;
    let over = false;
    let timer: NodeJS.Timeout | undefined;

    function end(): void {
      over = true;
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      losers.abort("lost");
    }

    function abort(): void {
      end();
      reject(new Error("aborted"));
    }

    function win(socket: Socket): void {
      socket.on("error", () => {}); // whoever takes the socket hears of its end by "close"
      if (over) {
        socket.destroy();
        return;
      }
      end();
      resolve(socket);
    }

    function lose(error: unknown): void {
      open -= 1;
      if (over) return;
      if (started < targets.length) {
        attempt();
      } else if (open === 0) {
        end();
        reject(error);
      }
    }

    function attempt(): void {
      clearTimeout(timer);
      const address = targets[started];
      if (address === undefined) return;
      started += 1;
      open += 1;
      if (started < targets.length) timer = setTimeout(attempt, ATTEMPT_DELAY_MS);
      dial(address, port, either).then(win, lose);
    }

    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener("abort", abort);
    attempt();
  });
}
