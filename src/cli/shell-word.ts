/** One word of a line to paste, whatever it holds: names come from customers and vendors. */
export function shellWord(text: string): string {
  return /^[\w.~:/@%+=,][\w.~:/@%+=,-]*$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
