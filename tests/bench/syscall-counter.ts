// Counts a process's system calls over a while, with perf or, where that can't, with strace, which slows it.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";

const EVENT = "raw_syscalls:sys_enter";

/** The tool, or undefined where there is none that works. */
export function syscallTool(): "perf" | "strace" | undefined {
  if (spawnSync("perf", ["stat", "-e", EVENT, "true"]).status === 0) return "perf";
  return spawnSync("strace", ["-D", "-o", "/dev/null", "true"]).status === 0 ? "strace" : undefined;
}

/** How many system calls all threads of a process make while `load` runs. */
export function countSyscalls(tool: "perf" | "strace", pid: number, load: () => void): Promise<number> {
  return tool === "perf" ? countByPerf(pid, load) : countByStrace(pid, load);
}

/** perf says on descriptor 4 that it has done what it was told on descriptor 3. */
async function countByPerf(pid: number, load: () => void): Promise<number> {
  const args = ["stat", "-x,", "-e", EVENT, "-p", `${pid}`, "--delay=-1", "--control=fd:3,4"];
  const perf = spawn("perf", args, { stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"] });
  const report = textOf(perf);
  const [, , , control, acknowledgements] = perf.stdio as unknown as [null, null, null, Writable, Readable];
  // Which end of which pipe hears first that perf has ended doesn't matter: endOf() tells.
  for (const pipe of [control, acknowledgements]) pipe.on("error", () => acknowledgements.destroy());
  const isDone = () => Promise.race([once(acknowledgements, "data"), endOf(acknowledgements)]);
  control.write("enable\n");
  await isDone();
  load();
  control.write("disable\n");
  await isDone();
  perf.kill("SIGINT");
  return Number(/^(\d+),/m.exec(await report)?.[1]);
}

async function countByStrace(pid: number, load: () => void): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), "vringd-bench-"));
  const path = join(directory, "strace");
  try {
    const strace = spawn("strace", ["-c", "-U", "calls,name", "-f", "-p", `${pid}`, "-o", path], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const ended = once(strace, "close");
    // It says "attached" on standard error.
    await once(strace.stderr!, "data");
    load();
    strace.kill("SIGINT");
    await ended;
    return Number(/(\d+) total$/m.exec(readFileSync(path, "latin1"))?.[1]);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Rejects: perf has ended before it was told to, most likely since it may not look at the process. */
async function endOf(acknowledgements: Readable): Promise<never> {
  await once(acknowledgements, "close");
  throw new Error("perf ended too early");
}

async function textOf(child: ChildProcess): Promise<string> {
  let text = "";
  child.stderr!.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  await once(child, "close");
  return text;
}
