// Two ways to learn where a thread spends its time.
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** A function's own part of the time. */
export interface Share {
  percent: number;
  where: "kernel" | "user" | "wasm" | "js";
  name: string;
}

export interface Profiler {
  name: string;
  /** What Node needs so that functions have names. */
  nodeFlags: string[];
  /** Takes the thread of the process that has worked most up to now. */
  start(pid: number): Promise<void>;
  stop(): Promise<void>;
  /** Most first. Once the process has ended. */
  shares(): Share[];
  /** The raw file. */
  written(): string;
}

const SAMPLES_PER_SECOND = 4999;
/** perf says nothing when it has attached. */
const ATTACH_MS = 500;

export function hasPerf(): boolean {
  return spawnSync("perf", ["record", "-q", "-e", "cpu-clock", "-o", "/dev/null", "true"]).status === 0;
}

export function perfProfiler(directory: string): Profiler {
  const file = join(directory, "perf.data");
  let perf: ChildProcess;
  let symbols: string;
  return {
    name: "perf",
    nodeFlags: [
      "--perf-basic-prof",
      "--interpreted-frames-native-stack",
      // V8 writes one beside, whether wanted or not; in the working directory if it may.
      "--no-logfile-per-isolate",
      "--logfile=/dev/null",
    ],
    async start(pid) {
      symbols = `/tmp/perf-${pid}.map`;
      const what = ["-e", "cpu-clock", "-F", `${SAMPLES_PER_SECOND}`, "-t", `${busiestThread(pid)}`];
      perf = spawn("perf", ["record", "-q", "-g", "-o", file, ...what], { stdio: "ignore" });
      await sleep(ATTACH_MS);
    },
    async stop() {
      perf.kill("SIGINT");
      await once(perf, "close");
    },
    shares() {
      const args = ["report", "-i", file, "--stdio", "--no-children", "--sort=sym", "-g", "none"];
      const text = execFileSync("perf", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
      rmSync(symbols, { force: true });
      return [...text.matchAll(/^ +([\d.]+)% +\[(.)\] +(.+?) *$/gm)].map(([, percent, space, name]) => ({
        percent: Number(percent),
        ...placeOf(space!, name!),
      }));
    },
    written: () => file,
  };
}

/** V8's names in a perf map: "JS:*name file:1:2", and "JS:name-12-turbofan" for Wasm. */
function placeOf(space: string, symbol: string): Pick<Share, "where" | "name"> {
  if (space === "k") return { where: "kernel", name: symbol };
  const wasm = /^JS:(.+)-\d+-(turbofan|liftoff)$/.exec(symbol);
  if (wasm !== null) return { where: "wasm", name: wasm[1]! };
  if (symbol.startsWith("JS:")) return { where: "js", name: symbol.slice(3) };
  return { where: "user", name: symbol };
}

/** By processor time up to now, of the first field of schedstat. */
function busiestThread(pid: number): number {
  const used = (tid: string) =>
    Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, "latin1").split(" ")[0]);
  const threads = readdirSync(`/proc/${pid}/task`);
  return Number(threads.reduce((most, tid) => (used(tid) > used(most) ? tid : most)));
}

interface V8Profile {
  nodes: { id: number; callFrame: { functionName: string; url: string } }[];
  samples: number[];
  timeDeltas: number[];
}

/** Each thread writes a profile of all its life when it ends. */
export function v8Profiler(directory: string): Profiler {
  const suffix = ".cpuprofile";
  for (const name of profilesIn()) rmSync(name);
  let chosen = "";
  return {
    name: "V8's profiler: there is no perf, so the kernel's share counts for whoever called it",
    nodeFlags: ["--cpu-prof", `--cpu-prof-dir=${directory}`],
    start: async () => {},
    stop: async () => {},
    shares() {
      const inWasm = (shares: readonly Share[]) =>
        shares.reduce((sum, { where, percent }) => sum + (where === "wasm" ? percent : 0), 0);
      const profiles = profilesIn().map((name) => ({ name, shares: sharesIn(name) }));
      const worker = profiles.reduce((most, one) => (inWasm(one.shares) > inWasm(most.shares) ? one : most));
      chosen = worker.name;
      return worker.shares;
    },
    written: () => chosen,
  };

  function profilesIn(): string[] {
    const names = readdirSync(directory).filter((name) => name.endsWith(suffix));
    return names.map((name) => join(directory, name));
  }
}

function sharesIn(path: string): Share[] {
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(path, "utf8")) as V8Profile;
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  const times = new Map<string, Share>();
  let total = 0;
  for (const [i, id] of samples.entries()) {
    const { functionName, url } = frames.get(id)!;
    const where = url.startsWith("wasm:") ? "wasm" : "js";
    const name = functionName || "(anonymous)";
    const share = times.get(where + name) ?? { percent: 0, where, name };
    times.set(where + name, share);
    share.percent += timeDeltas[i]!;
    total += timeDeltas[i]!;
  }
  const shares = [...times.values()].map((share) => ({ ...share, percent: (share.percent / total) * 100 }));
  return shares.sort((a, b) => b.percent - a.percent);
}
