import { get, PARTS } from "./parts.ts";

// Gets the real parts that tests and the demo start. What cannot be had is said and left to the suites that need it,
// which fail with the same line.
for (const part of PARTS) {
  try {
    await get(part);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
  }
}
