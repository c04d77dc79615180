const MASK = "[secret]";
/** A JWT, signed or not: an assertion that was sent, or a token that nobody knows of here. */
const JWT = /\beyJ[\w-]{8,}\.[\w-]*(\.[\w-]*)?/g;
const MAX_CODE_LENGTH = 64;
const MAX_MESSAGE_LENGTH = 200;

/** Makes a provider's words safe to keep and show: none of `secrets`, in any usual spelling, and printable ASCII. */
export class Masker {
  readonly #spellings: readonly string[];

  constructor(secrets: readonly (string | undefined)[]) {
    const spellings = secrets.flatMap((secret) =>
      secret === undefined || secret === "" ? [] : spellingsOf(secret),
    );
    // The longest first, so that a secret that contains another one goes as a whole.
    this.#spellings = [...new Set(spellings)].sort((a, b) => b.length - a.length);
  }

  code(text: string): string {
    return this.#masked(text, MAX_CODE_LENGTH);
  }

  message(text: string): string {
    return this.#masked(text, MAX_MESSAGE_LENGTH);
  }

  #masked(text: string, max: number): string {
    // Hidden after the replacement, which could put a secret together that had stood apart.
    return this.#hide(text.replace(/[^\x20-\x7e]+/g, "?")).slice(0, max);
  }

  #hide(text: string): string {
    return this.#spellings
      .reduce((rest, spelling) => rest.replaceAll(spelling, MASK), text)
      .replace(JWT, MASK);
  }
}

function spellingsOf(secret: string): string[] {
  const json = JSON.stringify(secret).slice(1, -1);
  const encoded = secret.isWellFormed()
    ? [encodeURIComponent(secret), new URLSearchParams([["", secret]]).toString().slice(1)]
    : [];
  return [
    secret,
    json,
    secret.replace(/[^\x20-\x7e]+/g, "?"),
    Buffer.from(secret).toString("base64"),
    ...encoded,
  ];
}
