import { readFileSync } from "node:fs";
import * as z from "zod";
import { invalid, whyUnread } from "../errors.ts";

/** How providers are reached. */
export const egressSchema = z.strictObject({
  /** A CONNECT proxy that everything outside is reached through; it resolves the names. */
  proxy: z
    .strictObject({
      /** `http://host:port`, or `https://` for TLS to the proxy itself. */
      url: z.string().refine(isProxyUrl, "http:// or https://, a host and a port, without user or path"),
      username: z.string().min(1).optional(),
      /** Holds the password alone. */
      password_file: z.string().optional(),
      /** Hosts that are reached directly: exact, or `.example.com` for everything below. */
      except: z.array(z.string().regex(/^\.?[a-z0-9.:-]+$/, "a host in lower case")).default([]),
    })
    .refine(({ username, password_file }) => password_file === undefined || username !== undefined, {
      path: ["username"],
      message: "needed with password_file",
    })
    .optional(),
});

function isProxyUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password, pathname, search, hash } = new URL(text);
  const isBare = pathname === "/" && username + password + search + hash === "";
  return isBare && (protocol === "http:" || protocol === "https:");
}

type Proxy = z.output<typeof egressSchema>["proxy"];

/** The proxy with its credentials, as one `Proxy-Authorization` value (RFC 7617). INVALID_REQUEST for an unreadable file. */
export function egressProxy(proxy: Proxy) {
  if (proxy === undefined) return undefined;
  const { url: text, username, password_file: file, except } = proxy;
  const url = new URL(text);
  const secure = url.protocol === "https:";
  const pair =
    username === undefined ? undefined : `${username}:${file === undefined ? "" : readPassword(file)}`;
  return {
    secure,
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port === "" ? (secure ? 443 : 80) : Number(url.port),
    authorization: pair === undefined ? undefined : `Basic ${Buffer.from(pair).toString("base64")}`,
    except,
  };
}

function readPassword(file: string): string {
  try {
    return readFileSync(file, "utf8").replace(/\r?\n$/, "");
  } catch (error) {
    throw invalid("egress.proxy.password_file", `${whyUnread(error)}: ${file}`);
  }
}
