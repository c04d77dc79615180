import { goTools, python } from "../clients/toolchains.ts";
import { get, PARTS } from "./parts.ts";

// Gets the real parts that tests and the demo start, and what the tests' apps in other languages are built with. What cannot be had is said and left to the suites that need it,
// which fail with the same line.
for (const getting of [...PARTS.map((part) => () => get(part)), python, goTools]) {
  try {
    await getting();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
  }
}
