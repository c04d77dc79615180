import { spawn } from "node:child_process";
import { platform } from "node:os";
import type { Io } from "./io.ts";

/** Opens `url` in the user's browser, when there seems to be one. It must not be a secret: others see our processes. */
export function openBrowser(url: string, env: Io["env"]): boolean {
  const program = browserOf(env);
  if (program === undefined) return false;
  const child = spawn(program, [url], { detached: true, stdio: "ignore" });
  // Whoever has no browser after all has the address before their eyes.
  child.on("error", () => undefined);
  child.unref();
  return true;
}

function browserOf({ BROWSER, DISPLAY, WAYLAND_DISPLAY }: Io["env"]): string | undefined {
  if (BROWSER !== undefined && BROWSER !== "") return BROWSER;
  if (platform() === "darwin") return "open";
  return DISPLAY || WAYLAND_DISPLAY ? "xdg-open" : undefined;
}
