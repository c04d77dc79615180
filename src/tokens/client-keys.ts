import { createPrivateKey, X509Certificate } from "node:crypto";
import { invalid } from "../errors.ts";
import type { ClientCertificateFacts, ClientKeyFacts } from "./records.ts";
import { Secret } from "./secret.ts";
import { signingKeyOf } from "./signing-key.ts";
import type { ClientCertificate, PrivateKey } from "./vendor.ts";

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** What an OAuth client is registered with at the provider, besides its id. */
export interface ClientMaterial {
  readonly secret?: Secret | undefined;
  readonly privateKey?: PrivateKey | undefined;
  readonly certificate?: ClientCertificate | undefined;
  /** Further secrets by name, which calls of the provider's API carry. */
  readonly fields?: Readonly<Record<string, Secret>> | undefined;
}

/** A key that assertions can be signed with, and what may be shown of it. INVALID_REQUEST names `private_key`. */
export function checkedPrivateKey({ key, keyId }: PrivateKey): ClientKeyFacts {
  const signing = signingKeyOf(key.reveal());
  if (typeof signing === "string") throw invalid("private_key", `must be ${signing}`);
  return { algorithm: signing.algorithm, keyId: keyId ?? signing.keyId ?? "" };
}

/**
 * A certificate chain with the key of its first one, and what may be shown of it. INVALID_REQUEST names `certificate` or
 * `certificate_key`; never with any of the key.
 */
export function checkedCertificate({ chain, key }: ClientCertificate, nowMs: number): ClientCertificateFacts {
  const first = certificatesIn(chain)[0];
  if (first === undefined)
    throw invalid("certificate", "must be certificates in PEM, the client's own first");
  const notAfterMs = Date.parse(first.validTo);
  if (!(notAfterMs > nowMs)) throw invalid("certificate", `has ended on ${first.validTo}`);
  if (!fits(first, key))
    throw invalid("certificate_key", "must be the unencrypted PEM key of the certificate");
  return {
    subject: first.subject.replaceAll("\n", ", "),
    fingerprint: first.fingerprint256.replaceAll(":", "").toLowerCase(),
    notAfterMs,
  };
}

function certificatesIn(chain: string): readonly X509Certificate[] {
  try {
    return [...chain.matchAll(CERTIFICATE)].map(([pem]) => new X509Certificate(pem));
  } catch {
    return [];
  }
}

function fits(certificate: X509Certificate, key: Secret): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(key.reveal()));
  } catch {
    return false;
  }
}

interface PlainMaterial {
  readonly active?: string | undefined;
  readonly privateKey?: { readonly key: string; readonly keyId?: string | undefined } | undefined;
  readonly certificate?: { readonly chain: string; readonly key: string } | undefined;
  readonly fields?: Readonly<Record<string, string>> | undefined;
}

/** Plain bytes for the cipher; the caller fills them with zero after sealing. */
export function materialToBytes({ secret, privateKey, certificate, fields }: ClientMaterial): Buffer {
  const plain: PlainMaterial = {
    active: secret?.reveal(),
    privateKey: privateKey && { key: privateKey.key.reveal(), keyId: privateKey.keyId },
    certificate: certificate && { chain: certificate.chain, key: certificate.key.reveal() },
    fields: fields && mapped(fields, (field) => field.reveal()),
  };
  return Buffer.from(JSON.stringify(plain));
}

/** Reads what `materialToBytes` wrote; the bytes were authenticated by the cipher. */
export function materialFromBytes(bytes: Buffer): ClientMaterial {
  const { active, privateKey, certificate, fields }: PlainMaterial = JSON.parse(bytes.toString("utf8"));
  return {
    secret: active === undefined ? undefined : new Secret(active),
    privateKey: privateKey && { key: new Secret(privateKey.key), keyId: privateKey.keyId },
    certificate: certificate && { chain: certificate.chain, key: new Secret(certificate.key) },
    fields: fields && mapped(fields, (field) => new Secret(field)),
  };
}

function mapped<A, B>(of: Readonly<Record<string, A>>, to: (value: A) => B): Readonly<Record<string, B>> {
  return Object.fromEntries(Object.entries(of).map(([name, value]) => [name, to(value)]));
}
