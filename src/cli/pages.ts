const MAX_PAGE = 1_000;

interface Page<T> {
  readonly rows: readonly T[];
  /** Empty: that was all. */
  readonly nextPageToken: string;
}

/** Walks a paged list up to `limit` rows. `hasMore` is known once `rows` has been read to its end. */
export function pagesOf<T>(
  limit: number,
  read: (pageSize: number, pageToken: string) => Promise<Page<T>>,
): { readonly rows: AsyncGenerator<T, void>; hasMore(): boolean } {
  let more = false;
  async function* walk(): AsyncGenerator<T, void> {
    let left = limit;
    let token = "";
    do {
      const page = await read(Math.min(left, MAX_PAGE), token);
      const rows = page.rows.slice(0, left);
      yield* rows;
      left -= rows.length;
      token = page.nextPageToken;
      more = token !== "" || rows.length < page.rows.length;
    } while (token !== "" && left > 0);
  }
  return { rows: walk(), hasMore: () => more };
}
