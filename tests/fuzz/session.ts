// Runs of the fuzzer: side by side on one corpus, until the time is over or something is found.
import { type ChildProcess, spawn } from "node:child_process";
import { readdir } from "node:fs/promises";

/** Longer than the slowest input takes with every sanitizer on a busy machine. */
const INPUT_TIMEOUT_S = 20;
/** Longer inputs find nothing that shorter ones don't. */
export const INPUT_LENGTH_MAX = 1024;

/** libFuzzer's status after SIGINT. */
const INTERRUPTED = 72;

export interface SessionOptions {
  fuzzer: string;
  corpus: string;
  crashes: string;
  seconds: number;
  jobs: number;
}

export interface Totals {
  executions: number;
  executionsPerSecond: number;
  /** Counters of libFuzzer in the core that were reached, and all. */
  covered: number;
  counters: number;
  fuelMax: number;
  crashes: string[];
  /** What the oracle, or the sanitizer, said first. */
  reason: string;
  seconds: number;
}

interface Outcome {
  status: number | null;
  text: string;
}

export const SANITIZER_OPTIONS = {
  // Stacks of allocations are costly, and nothing here is about the heap of the harness.
  ASAN_OPTIONS: "malloc_context_size=0:detect_leaks=0",
};

export function startFuzzer(
  fuzzer: string,
  args: readonly string[],
): { child: ChildProcess; end: Promise<Outcome> } {
  const child = spawn(fuzzer, args, {
    env: { ...process.env, ...SANITIZER_OPTIONS },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let text = "";
  child.stderr!.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  const end = new Promise<Outcome>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, text }));
  });
  return { child, end };
}

export async function fuzz({ fuzzer, corpus, crashes, seconds, jobs }: SessionOptions): Promise<Totals> {
  const before = new Set(await readdir(crashes));
  const args = [
    "-use_value_profile=1",
    `-max_total_time=${seconds}`,
    `-max_len=${INPUT_LENGTH_MAX}`,
    `-timeout=${INPUT_TIMEOUT_S}`,
    `-artifact_prefix=${crashes}/`,
    "-print_final_stats=1",
    corpus,
  ];
  const start = performance.now();
  const runs = Array.from({ length: jobs }, () => startFuzzer(fuzzer, args));
  const ends = runs.map(({ end }) => end);
  // One that fails ends all.
  for (const end of ends) {
    void end.then(({ status }) => {
      if (status !== 0) for (const { child } of runs) child.kill("SIGINT");
    });
  }
  const outcomes = await Promise.all(ends);
  const elapsed = (performance.now() - start) / 1000;
  const found = (await readdir(crashes)).filter((name) => !before.has(name));
  return { ...total(outcomes, elapsed), crashes: found, seconds: elapsed };
}

function total(outcomes: readonly Outcome[], seconds: number): Omit<Totals, "crashes" | "seconds"> {
  const texts = outcomes.map(({ text }) => text);
  const executions = texts.reduce(
    (sum, text) => sum + lastNumber(text, /stat::number_of_executed_units:\s+(\d+)/g),
    0,
  );
  const failed = outcomes.find(({ status }) => status !== 0 && status !== INTERRUPTED);
  return {
    executions,
    executionsPerSecond: Math.round(executions / seconds),
    covered: Math.max(...texts.map((text) => lastNumber(text, / cov: (\d+)/g))),
    counters: lastNumber(texts[0]!, /\((\d+) inline 8-bit counters\)/g),
    fuelMax: Math.max(...texts.map((text) => lastNumber(text, /^fuel: (\d+)/gm))),
    reason: failed === undefined ? "" : reasonOf(failed.text),
  };
}

function lastNumber(text: string, pattern: RegExp): number {
  return Number([...text.matchAll(pattern)].at(-1)?.[1] ?? 0);
}

export function reasonOf(text: string): string {
  return /^oracle: .*|^SUMMARY: .*/m.exec(text)?.[0] ?? text.slice(-500);
}
