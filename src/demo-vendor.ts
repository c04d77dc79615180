import type { Stage } from "./cli/demo/stage.ts";
import type { Simulator } from "./simulator/simulator.ts";
import { Secret } from "./tokens/secret.ts";

/** What a demo asks of its provider, of the simulator. */
export function demoVendor(simulator: Simulator): Stage["vendor"] {
  return {
    url: simulator.url,
    port: simulator.port,
    grant: (subject, expired) => {
      const grant = simulator.issueGrant({ clientId: "demo-client", subject, expired });
      return {
        accessToken: new Secret(grant.accessToken),
        refreshToken: new Secret(grant.refreshToken),
        expiresAtMs: grant.expiresAtMs,
      };
    },
    revoke: (subject) => simulator.revokeFamily({ subject }),
    tokenRequests: () => simulator.stats().tokenRequests,
  };
}
