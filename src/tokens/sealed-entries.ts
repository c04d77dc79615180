import type { Kind } from "./records.ts";
import type { Entry, Page, Store } from "./store.ts";

const PAGE = 200;

/** All entries of a kind, a page at a time. */
export async function* entriesOf<K extends Kind>(store: Store, kind: K): AsyncGenerator<Entry<K>, void> {
  for (let after: string | undefined = ""; after !== undefined; ) {
    const page: Page<K> = await store.scan(kind, after, PAGE);
    yield* page.entries;
    after = page.next;
  }
}
