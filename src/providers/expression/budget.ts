/** Everything one evaluation may spend: a pause of the machine must not change what an answer means, so steps, not time. */
export const MAX_STEPS = 20_000;
export const MAX_STRING_LENGTH = 65_536;
export const MAX_DEPTH = 100;
const CHARACTERS_PER_STEP = 64;
const REGEX_STATES_PER_STEP = 256;

/** Throws a RangeError when an evaluation costs too much. */
export class Budget {
  #steps = MAX_STEPS;

  spend(steps: number): void {
    this.#steps -= steps;
    if (this.#steps < 0) throw new RangeError("too many steps");
  }

  /** For reading or making a string. */
  text(text: string): string {
    if (text.length > MAX_STRING_LENGTH) throw new RangeError("a string became too long");
    this.spend(1 + Math.floor(text.length / CHARACTERS_PER_STEP));
    return text;
  }

  /** For one search through `characters` with a regular expression of `size`. */
  search(characters: number, size: number): void {
    this.spend(1 + Math.floor((characters * size) / REGEX_STATES_PER_STEP));
  }
}
