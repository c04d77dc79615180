function codeOf(error: unknown): string {
  if (typeof error !== "object" || error === null || !("code" in error)) return "";
  return typeof error.code === "string" ? error.code : "";
}

const CERTIFICATE = /CERT|UNABLE_TO_|ALTNAME|INVALID_PURPOSE|PATH_LENGTH|HOSTNAME_MISMATCH/;

/** Why no connection came about, in one word for metadata and logs. */
export function connectCause(stage: "resolve" | "connect" | "tls", error: unknown): string {
  const code = codeOf(error);
  switch (stage) {
    case "resolve":
      return code === "ENOTFOUND" ? "dns_not_found" : "dns_failed";
    case "connect":
      if (code === "ECONNREFUSED") return "connection_refused";
      if (code === "ETIMEDOUT") return "connect_timeout";
      return code === "EHOSTUNREACH" || code === "ENETUNREACH" ? "unreachable" : "connect_failed";
    case "tls":
      return CERTIFICATE.test(code) ? "tls_certificate_invalid" : "tls_failed";
  }
}

/** Why an open connection gave no complete answer, in one word for metadata and logs. */
export function answerCause(error: unknown): string {
  const code = codeOf(error);
  if (code === "ECONNRESET" || code === "EPIPE" || code === "ECONNABORTED") return "connection_reset";
  if (code.startsWith("ERR_SSL_") && code.includes("ALERT")) return "tls_certificate_refused";
  if (code === "UND_ERR_RES_CONTENT_LENGTH_MISMATCH") return "body_truncated";
  if (code === "UND_ERR_REQ_CONTENT_LENGTH_MISMATCH") return "request_length_mismatch";
  if (code === "UND_ERR_HEADERS_OVERFLOW") return "headers_too_large";
  if (code === "HPE_INVALID_EOF_STATE") return "body_truncated";
  if (code.startsWith("HPE_") || isParserError(error)) return "malformed_answer";
  return code === "UND_ERR_SOCKET" ? "connection_closed" : "connection_failed";
}

/** undici gives some of them no code. */
function isParserError(error: unknown): boolean {
  return error instanceof Error && error.name === "HTTPParserError";
}
