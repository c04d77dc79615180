import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { Browser } from "puppeteer-core";
import { onTestFinished } from "vitest";
import { tempFolder } from "../fakes/temp-folder.ts";

const ON_PATH = ["google-chrome", "chromium", "chromium-browser", "google-chrome-stable"];
const QUIET = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** A real browser without a screen, ended with the test: one on the PATH, else the one that npm brings. */
export async function startBrowser(): Promise<Browser> {
  const { launch } = await import("puppeteer-core");
  const browser = await launch({
    executablePath: onPath() ?? (await fromNpm()),
    headless: "shell",
    args: QUIET,
    userDataDir: tempFolder(),
  });
  onTestFinished(async () => {
    await browser.close();
  });
  return browser;
}

function onPath(): string | undefined {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const paths = ON_PATH.flatMap((name) => folders.map((folder) => join(folder, name)));
  return paths.find((path) => existsSync(path) && runs(path));
}

function runs(path: string): boolean {
  try {
    execFileSync(path, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

async function fromNpm(): Promise<string> {
  const { default: chromium } = await import("@sparticuz/chromium");
  return chromium.executablePath();
}
