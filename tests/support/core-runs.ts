// tests/runtimes: the core run in each runtime that is installed, as a program of its own.
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { basename, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type ServedFile, textOfPage } from "./chromium.ts";
import { buildNative } from "./native-core.ts";
import * as runtimes from "./runtimes.ts";

/** What the program is to do: tell the story, with either artefact, or how many requests a second it makes. */
export type Kind = "plain" | "shared" | "speed";

export interface Runtime {
  name: string;
  needs: readonly runtimes.Program[];
  /** Resolves with what the program says. */
  run(kind: Kind): Promise<string>;
}

const TIMEOUT_MS = 60_000;

/** Neither Deno nor Bun looks for a newer version of itself, nor keeps anything outside of build/. */
export const QUIET = { DENO_NO_UPDATE_CHECK: "1", DENO_DIR: resolve("build/deno"), DO_NOT_TRACK: "1" };

const fileFor = (kind: Kind) => resolve("build", kind === "shared" ? "core.wasm" : "core.plain.wasm");

async function output(program: string, args: readonly string[]): Promise<string> {
  const env = { ...process.env, ...QUIET };
  const { stdout } = await promisify(execFile)(program, args, { env, timeout: TIMEOUT_MS });
  return stdout.trimEnd();
}

function inNode(): Runtime {
  const program = fileURLToPath(new URL("runtime-node.mjs", import.meta.url));
  return {
    name: "Node",
    needs: [],
    run: (kind) => output(process.execPath, [program, fileFor(kind), kind]),
  };
}

function inDeno(): Runtime {
  const deno = runtimes.findDeno();
  const flags = ["--no-config", "--no-lock", "--no-remote", "--no-npm", "--no-prompt", "--allow-read=build"];
  return {
    name: "Deno",
    needs: [deno],
    run: (kind) => output(deno.path!, ["run", ...flags, "tests/runtimes/deno.ts", fileFor(kind), kind]),
  };
}

function inBun(): Runtime {
  const bun = runtimes.findBun();
  return {
    name: "Bun",
    needs: [bun],
    run: (kind) => output(bun.path!, ["run", "--no-install", "tests/runtimes/bun.ts", fileFor(kind), kind]),
  };
}

function inBrowser(): Runtime {
  const chromium = runtimes.findChromium();
  return {
    name: "a browser",
    needs: [chromium],
    async run(kind) {
      const file = fileFor(kind);
      const path = `/?file=${basename(file)}&kind=${kind}`;
      return textOfPage(chromium.path!, await pageWith(file), path);
    },
  };
}

async function pageWith(file: string): Promise<Map<string, ServedFile>> {
  const page = '<!doctype html><meta charset="utf-8"><body><script type="module" src="/page.js"></script>';
  const flags = ["--bundle", "--format=esm", "--target=es2022", "--log-level=warning"];
  const script = await output("node_modules/.bin/esbuild", ["tests/runtimes/page.ts", ...flags]);
  return new Map<string, ServedFile>([
    ["/", { type: "text/html", content: page }],
    ["/page.js", { type: "text/javascript", content: script }],
    [`/${basename(file)}`, { type: "application/wasm", content: readFileSync(file) }],
  ]);
}

function inC(): Runtime {
  const wasm2c = runtimes.findWasm2c();
  const compiler = runtimes.findCompiler();
  return {
    name: "a C program",
    needs: [wasm2c, compiler],
    async run(kind) {
      if (kind === "shared") throw new Error("wasm2c knows no shared memory");
      return output(
        await buildNative(wasm2c.path!, compiler.path!, kind === "speed" ? "speed" : "story"),
        [],
      );
    },
  };
}

export const allRuntimes = (): Runtime[] => [inNode(), inDeno(), inBun(), inBrowser(), inC()];
