import * as z from "zod";
import { Secret } from "../tokens/secret.ts";

/** Text that no longer shows itself once the configuration is read. */
export const secret = z
  .string()
  .min(1, "text that is not empty")
  .transform((text) => new Secret(text));
