import { type Answer, json } from "./answer.ts";

/** `GET /.well-known/oauth-authorization-server` (RFC 8414). */
export function metadata(issuer: string): Answer {
  const methods = ["client_secret_basic", "client_secret_post"];
  return json(200, {
    issuer,
    authorization_endpoint: `${issuer}/oauth/authorize`,
    token_endpoint: `${issuer}/oauth/token`,
    introspection_endpoint: `${issuer}/oauth/introspect`,
    revocation_endpoint: `${issuer}/oauth/revoke`,
    response_types_supported: ["code"],
    grant_types_supported: ["authorization_code", "refresh_token", "client_credentials"],
    code_challenge_methods_supported: ["S256", "plain"],
    token_endpoint_auth_methods_supported: [...methods, "none"],
    introspection_endpoint_auth_methods_supported: methods,
    revocation_endpoint_auth_methods_supported: [...methods, "none"],
    authorization_response_iss_parameter_supported: true,
  });
}
