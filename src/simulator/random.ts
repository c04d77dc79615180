/** Numbers from 0 to below 1, for deciding about faults and nothing secret; the same for the same `seed`. */
export function randomSource(seed: number | undefined): () => number {
  if (seed === undefined) return Math.random;
  // mulberry32
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
