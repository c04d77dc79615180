/** One entry of an import file. `line` is where it starts, from 1. `raw` tells it from another one; it holds secrets. */
export type Row = { readonly line: number; readonly raw: string } & (
  | { readonly value: unknown }
  /** Not even an entry; never with what was read. */
  | { readonly fault: string }
);
