import { invalid } from "../errors.ts";
import { stateInvalid } from "./authorizations.ts";

const MAX_STATE_LENGTH = 1_024;
const BASE = "http://callback.invalid";

/** The one state of a redirect's query. */
export function stateOf(query: URLSearchParams): string {
  const states = query.getAll("state");
  const [state = ""] = states;
  if (states.length === 1 && state !== "" && state.length <= MAX_STATE_LENGTH) return state;
  throw stateInvalid("no_state", "The redirect has not exactly one state.");
}

/** What an app may give as its own redirect address. INVALID_REQUEST says what is wrong with it. */
export function checkRedirectUri(uri: string): void {
  const expected = "an https URL, or http on a loopback address, without a fragment";
  if (!URL.canParse(uri) || uri.includes("#")) throw invalid("redirect_uri", expected);
  const url = new URL(uri);
  const isLoopback = /^(127(\.\d{1,3}){3}|\[::1\]|localhost)$/.test(url.hostname);
  const isFit = url.protocol === "https:" || (url.protocol === "http:" && isLoopback);
  if (!isFit || url.username !== "" || url.password !== "") throw invalid("redirect_uri", expected);
}

/** INVALID_REQUEST when it is no URL of a redirect. */
export function checkCallbackUrl(callbackUrl: string): void {
  if (callbackUrl !== "" && URL.canParse(callbackUrl, BASE)) return;
  throw invalid("callback_url", "the URL that the provider redirected to, with its query");
}

/**
 * An answer that came to another path than the one it was asked to, or without that one's own parameters, belongs to
 * another client (RFC 9700 §4.4.2). Scheme and host are not compared: behind a proxy the app sees others.
 */
export function requireCallbackOf(
  redirectUri: string,
  callbackUrl: string,
  refuse: (cause: string, message: string) => Error,
): void {
  const asked = new URL(redirectUri);
  const came = new URL(callbackUrl, BASE);
  const isSame =
    asked.pathname === came.pathname &&
    [...asked.searchParams].every(([name, value]) => came.searchParams.getAll(name).includes(value));
  if (!isSame) throw refuse("redirect_uri", "The redirect came to another address than it was asked to.");
}
