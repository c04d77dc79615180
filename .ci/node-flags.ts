/**
 * What the shipped command gives to Node: young garbage is collected sooner. More thrift than that costs a third of the
 * calls a second (test/bench/README.md).
 */
export const NODE_FLAGS = ["--max-semi-space-size=4"] as const;
