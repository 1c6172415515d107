// Stands in for host/process/own-files.ts in the single executable: what lies beside the programs elsewhere is within them.
import { realpathSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { getAsset, getRawAsset } from "node:sea";
import { Worker, type WorkerOptions } from "node:worker_threads";

export async function readOwnFile(name: string): Promise<Uint8Array> {
  return new Uint8Array(getRawAsset(name) as ArrayBuffer);
}

export function startWorker(options: WorkerOptions): Worker {
  // Code that is a string would have to be CommonJS, which can't await at its top.
  const code = Buffer.from(getAsset("worker.mjs")).toString("base64");
  return new Worker(new URL(`data:text/javascript;base64,${code}`), options);
}

/** main.ts knows it by its name. */
export function ownProcess(name: string): { file: string; args: string[]; argv0: string } {
  return { file: process.execPath, args: [], argv0: `vringd-${name}` };
}

/** All are one file, or links to it that lie beside it. */
export function ownProgram(name: string): string {
  const executable = realpathSync(process.execPath);
  return basename(executable) === name ? executable : join(dirname(executable), name);
}
