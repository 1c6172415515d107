// Where the core may run beside Node, if it is installed: Deno, Bun, Chromium, and what makes a native program of it.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { delimiter, join, resolve } from "node:path";

/** npm install --prefix build/runtimes --no-save --no-package-lock --ignore-scripts deno@2.9.6 bun@1.4.5 */
const PACKAGES = resolve("build/runtimes/node_modules");

/** A program's path, or why there is none. */
export type Program = { path: string; missing?: never } | { path?: never; missing: string };

/** The binaries lie in packages of their own, by platform; those under .bin need an install script to find them. */
export function findDeno(): Program {
  return found("deno", inPackages("@deno", "deno"));
}

export function findBun(): Program {
  return found("bun", inPackages("@oven", "bin/bun"));
}

export function findChromium(): Program {
  return found("chromium", []);
}

export function findWasm2c(): Program {
  return found("wasm2c", []);
}

export function findCompiler(): Program {
  const clang = found("clang-14", []);
  return clang.path === undefined ? found("gcc", []) : clang;
}

function inPackages(scope: string, file: string): string[] {
  const directory = join(PACKAGES, scope);
  if (!existsSync(directory)) return [];
  return readdirSync(directory).map((name) => join(directory, name, file));
}

function found(name: string, candidates: readonly string[]): Program {
  const inPath = (process.env.PATH ?? "").split(delimiter).map((directory) => join(directory, name));
  const path = [...candidates, ...inPath].find((candidate) => existsSync(candidate) && runs(candidate));
  return path === undefined ? { missing: `${name} is not installed` } : { path };
}

function runs(path: string): boolean {
  return spawnSync(path, ["--version"], { stdio: "ignore", timeout: 20_000 }).status === 0;
}
