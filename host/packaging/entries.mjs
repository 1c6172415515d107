// What is bundled and published: esbuild's entry points.
import { readdirSync } from "node:fs";
import { basename } from "node:path";

/** The toolbox, and a program a device. */
export const PROGRAMS = readdirSync("host/programs")
  .filter((name) => /^vringd(-\w+)?\.ts$/.test(name))
  .map((name) => basename(name, ".ts"));

export const WORKER = "host/workers/worker-thread.ts";

/** A process of its own that a device starts. */
export const RENDERER = "host/renderer/main.ts";

export const ENTRIES = [
  ...PROGRAMS.map((name) => ({ in: `host/programs/${name}.ts`, out: name })),
  { in: WORKER, out: "worker" },
  { in: RENDERER, out: "renderer" },
  { in: "host/library/index.ts", out: "index" },
];
