import type { Answer } from "./answer.ts";
import type { Parameters } from "./parameters.ts";

/** Where a customer says who they are, and whether they agree; both go back to the same address. */
export function consentPage(parameters: Parameters, subject: string): Answer {
  const hidden = [...parameters].filter(([name]) => name !== "login_hint");
  const inputs = hidden.map(
    ([name, value]) => `<input type="hidden" name="${escaped(name)}" value="${escaped(value)}">`,
  );
  const scope = parameters.get("scope") ?? "nothing in particular";
  const body = `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Simulated provider</title>
<form method="get">
${inputs.join("\n")}
<p><b>${escaped(parameters.get("client_id") ?? "")}</b> asks for: ${escaped(scope)}</p>
<p><label>You are <input name="login_hint" value="${escaped(subject)}" required></label></p>
<p><button name="decision" value="allow">Allow</button> <button name="decision" value="deny">Deny</button></p>
</form></html>
`;
  const headers = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "content-type": "text/html; charset=utf-8",
  };
  return { status: 200, headers, body };
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
