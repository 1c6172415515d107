// The product's code, for tests of what it says and whom it names.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { PROGRAM } from "./vringd.ts";

export const ROOT = join(dirname(PROGRAM), "..");

/** Code in these folders, and below them, by its path. "": what lies at the top. */
export function sourcesIn(...folders: string[]): Map<string, string> {
  const paths = folders.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: folder !== "", encoding: "utf8" }).map((path) =>
      join(folder, path),
    ),
  );
  const code = paths.filter((path) => /\.(ts|mjs)$/.test(path));
  return new Map(code.map((path) => [path, readFileSync(join(ROOT, path), "utf8")]));
}

/** As near as a pattern comes to it: a string with two slashes behind a blank would lose its end. */
export function withoutComments(code: string): string {
  return code.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$|\s\/\/ .*$/gm, "");
}
