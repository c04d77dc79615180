import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import {
  Health,
  type HealthCheckResponse,
  HealthCheckResponseSchema,
  HealthListResponseSchema,
  HealthCheckResponse_ServingStatus as Serving,
} from "../gen/grpc/health/v1/health_pb.js";
import { type Handlers, stream, unary } from "./call.ts";

/** gRPC health v1. `""` is the server; a service is in the same state as its listener. */
export class HealthState {
  readonly #services: ReadonlySet<string>;
  readonly #watchers = new Set<() => void>();
  #serving = false;

  constructor(services: readonly string[]) {
    this.#services = new Set(["", ...services]);
  }

  set(serving: boolean): void {
    this.#serving = serving;
    for (const changed of this.#watchers) changed();
  }

  #now(service: string): HealthCheckResponse {
    const known = this.#services.has(service);
    const state = this.#serving ? Serving.SERVING : Serving.NOT_SERVING;
    return create(HealthCheckResponseSchema, { status: known ? state : Serving.SERVICE_UNKNOWN });
  }

  handlers(): Handlers {
    return {
      check: unary(Health.method.check, ({ service }) => {
        if (this.#services.has(service)) return this.#now(service);
        throw Object.assign(new Error("unknown service"), {
          code: status.NOT_FOUND,
          details: "unknown service",
        });
      }),
      list: unary(Health.method.list, () => {
        const statuses = Object.fromEntries([...this.#services].map((name) => [name, this.#now(name)]));
        return create(HealthListResponseSchema, { statuses });
      }),
      watch: stream(Health.method.watch, async ({ service }, call, send) => {
        let wake = Promise.withResolvers<void>();
        const changed = () => wake.resolve();
        this.#watchers.add(changed);
        call.signal.addEventListener("abort", changed, { once: true });
        try {
          while (!call.signal.aborted) {
            wake = Promise.withResolvers();
            await send(this.#now(service));
            await wake.promise;
          }
        } finally {
          this.#watchers.delete(changed);
        }
      }),
    };
  }
}
