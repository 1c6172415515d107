// What the programs load that lies beside them. In the single executable, host/packaging/sea/own-files.ts stands in for this.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { Worker, type WorkerOptions } from "node:worker_threads";

/** A file of build/, such as "core.wasm". */
export function readOwnFile(name: string): Promise<Uint8Array> {
  return readFile(new URL(name, import.meta.url));
}

/** A thread that runs host/workers/worker.ts. */
export function startWorker(options: WorkerOptions): Worker {
  return new Worker(new URL("worker.mjs", import.meta.url), options);
}

/** How a process of our own is started that is no program of its own, such as "renderer". */
export function ownProcess(name: string): { file: string; args: string[]; argv0: string } {
  const path = fileURLToPath(new URL(`${name}.mjs`, import.meta.url));
  return { file: process.execPath, args: [path], argv0: `vringd-${name}` };
}

/** The path of one of our programs, such as "vringd-blk", links aside. */
export function ownProgram(name: string): string {
  return fileURLToPath(new URL(`${name}.mjs`, import.meta.url));
}
