import { readFile } from "node:fs/promises";
import type { KeyturnError } from "../../../errors.ts";
import { Secret } from "../../../tokens/secret.ts";
import { type Body, isObject, type VaultClient } from "./client.ts";
import { isVaultFault, vaultFault } from "./fault.ts";

/** How the sidecar proves to Vault who it is. */
export type VaultAuth =
  | { readonly method: "token"; readonly token: Secret }
  | { readonly method: "token_file"; readonly file: string }
  | {
      readonly method: "approle";
      readonly mount: string;
      readonly roleId: string;
      /** A file is read again at each login. */
      readonly secretId: Secret | { readonly file: string };
    }
  /** The projected token in `file` is read again at each login: the kubelet renews it. */
  | { readonly method: "kubernetes"; readonly mount: string; readonly role: string; readonly file: string };

export interface Login {
  readonly token: Secret;
  /** From now; zero: it does not expire, or nobody told. */
  readonly leaseMs: number;
  /** False for a batch token, among others. */
  readonly renewable: boolean;
}

/** KEK_UNAVAILABLE: `login_refused` when Vault does not accept it, `login_unreadable` when its file cannot be read. */
export type LogIn = () => Promise<Login>;

/** The login of a method; undefined members of it are asked for at each call anew. */
export function loginOf(auth: VaultAuth, client: VaultClient): LogIn {
  if (auth.method === "token") return () => lookedUp(auth.token, client);
  if (auth.method === "token_file") return async () => lookedUp(await secretIn(auth.file), client);
  if (auth.method === "approle") {
    const { mount, roleId, secretId } = auth;
    return async () => {
      const secret = secretId instanceof Secret ? secretId : await secretIn(secretId.file);
      return entered(client, mount, { role_id: roleId, secret_id: secret.reveal() });
    };
  }
  const { mount, role, file } = auth;
  return async () => entered(client, mount, { role, jwt: (await secretIn(file)).reveal() });
}

async function entered(client: VaultClient, mount: string, proof: Body): Promise<Login> {
  let body: Body;
  try {
    body = await client.write(`auth/${mount}/login`, proof, { token: undefined });
  } catch (error) {
    throw isVaultFault(error, "denied", "refused", "key_missing") ? refused(mount, error) : error;
  }
  return loginIn(body.auth);
}

/** A token that somebody else got. One that may not look at itself is used as it is, and not renewed. */
async function lookedUp(token: Secret, client: VaultClient): Promise<Login> {
  try {
    const { data } = await client.read("auth/token/lookup-self", { token });
    if (!isObject(data)) throw vaultFault("bad_answer", "says nothing about the token");
    return { token, leaseMs: leaseOf(data.ttl), renewable: data.renewable === true };
  } catch (error) {
    if (isVaultFault(error, "denied")) return { token, leaseMs: 0, renewable: false };
    throw error;
  }
}

/** The `auth` part of an answer to a login. */
function loginIn(auth: unknown): Login {
  if (!isObject(auth) || typeof auth.client_token !== "string" || auth.client_token === "") {
    throw vaultFault("bad_answer", "answered the login without a token");
  }
  const token = new Secret(auth.client_token);
  return { token, leaseMs: leaseOf(auth.lease_duration), renewable: auth.renewable === true };
}

/** The same token with the rest of its life after renewing it. KEK_UNAVAILABLE `denied` when it is not valid any more. */
export async function renewed({ token }: Login, client: VaultClient): Promise<Login> {
  const { auth } = await client.write("auth/token/renew-self", {}, { token });
  if (!isObject(auth)) throw vaultFault("bad_answer", "answered the renewal without a lease");
  return { token, leaseMs: leaseOf(auth.lease_duration), renewable: auth.renewable === true };
}

/** Vault tells seconds. */
function leaseOf(seconds: unknown): number {
  return typeof seconds === "number" && seconds > 0 ? seconds * 1_000 : 0;
}

async function secretIn(file: string): Promise<Secret> {
  let text: string;
  try {
    text = (await readFile(file, "utf8")).trim();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown";
    throw vaultFault("login_unreadable", `cannot be asked: ${file} cannot be read (${code})`);
  }
  if (text === "") throw vaultFault("login_unreadable", `cannot be asked: ${file} is empty`);
  return new Secret(text);
}

function refused(mount: string, { metadata }: KeyturnError): KeyturnError {
  const status = Number(metadata.status);
  return vaultFault("login_refused", `refuses the login at auth/${mount} (${status})`, { status });
}
