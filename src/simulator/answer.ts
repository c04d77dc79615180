/** What goes back to the client, before a fault may spoil its delivery. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
}

/** A JSON answer that no cache keeps (RFC 6749 §5.1). */
export function json(status: number, value: unknown, headers: Readonly<Record<string, string>> = {}): Answer {
  return {
    status,
    headers: { "content-type": "application/json", "cache-control": "no-store", ...headers },
    body: JSON.stringify(value),
  };
}

/** The error codes of RFC 6749 §5.2 and §4.1.2.1, RFC 6750 §3.1, and those for requests that miss the point. */
export type OAuthErrorCode =
  | "invalid_request"
  | "invalid_client"
  | "invalid_grant"
  | "unauthorized_client"
  | "unsupported_grant_type"
  | "unsupported_response_type"
  | "invalid_scope"
  | "access_denied"
  | "invalid_token"
  | "forbidden"
  | "not_found"
  | "method_not_allowed"
  | "server_error";

/** An error answer; `description` must hold nothing secret. */
export function problem(
  status: number,
  error: OAuthErrorCode,
  description: string,
  headers: Readonly<Record<string, string>> = {},
): Answer {
  return json(status, { error, error_description: description }, headers);
}

/** 405 naming what is allowed. */
export function methodNotAllowed(allow: string): Answer {
  return problem(405, "method_not_allowed", `use ${allow}`, { allow });
}
