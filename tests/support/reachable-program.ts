// The program where every user can reach it: the clone may lie in a home that only its owner may enter.
import { chmodSync, cpSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { KOFFI, ROOT } from "./installation.ts";
import { PROGRAM } from "./vringd.ts";

let copied: string | undefined;

/** vringd-blk, with all that it loads, in a directory of its own until this process ends. */
export function reachableProgram(): string {
  copied ??= copy();
  return copied;
}

function copy(): string {
  const directory = mkdtempSync(join(tmpdir(), "vringd-program-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  chmodSync(directory, 0o755);
  const build = dirname(PROGRAM);
  const loaded = readdirSync(build).filter((name) => /\.(mjs|wasm)$/.test(name));
  for (const name of loaded) cpSync(join(build, name), join(directory, "build", name));
  for (const name of KOFFI) {
    cpSync(join(ROOT, "node_modules", name), join(directory, "node_modules", name), { recursive: true });
  }
  makeReadable(directory);
  return join(directory, "build", basename(PROGRAM));
}

/** Whatever the umask of whoever made the clone. */
function makeReadable(directory: string): void {
  chmodSync(directory, 0o755);
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) makeReadable(path);
    else chmodSync(path, 0o755);
  }
}
