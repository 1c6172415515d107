// Runs of the fuzzer: side by side on one corpus, until the time is over or something is found.
import { type ChildProcess, spawn } from "node:child_process";
import { readdir } from "node:fs/promises";

/** Longer than the slowest input takes with every sanitizer on a busy machine. */
const INPUT_TIMEOUT_S = 20;
/** Longer inputs find nothing that shorter ones don't. */
export const INPUT_LENGTH_MAX = 1024;

/** libFuzzer's status after SIGINT. */
const INTERRUPTED = 72;

/** What AddressSanitizer has of the jobs' time: it makes an execution three times as slow, and finds other things. */
const CHECKED_SHARE = 1 / 16;

export interface SessionOptions {
  fuzzer: string;
  /** The same with AddressSanitizer, if it is to have its share. */
  checkedFuzzer?: string;
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

const SANITIZER_OPTIONS = {
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

/** A part of a job's time, with one of the fuzzers. */
interface Stint {
  fuzzer: string;
  seconds: number;
}

/** What is less than a whole job comes at the end of the last one: it begins with the inputs that the others have kept. */
function planJobs({ fuzzer, checkedFuzzer, seconds, jobs }: SessionOptions): Stint[][] {
  const checkedJobs = checkedFuzzer === undefined ? 0 : jobs * CHECKED_SHARE;
  const whole = Math.floor(checkedJobs);
  const rest = Math.min(Math.ceil((checkedJobs - whole) * seconds), seconds - 1);
  const plan = Array.from({ length: jobs }, (_, job): Stint[] => [
    { fuzzer: job < whole ? checkedFuzzer! : fuzzer, seconds },
  ]);
  if (rest > 0) {
    plan[jobs - 1] = [
      { fuzzer, seconds: seconds - rest },
      { fuzzer: checkedFuzzer!, seconds: rest },
    ];
  }
  return plan;
}

export async function fuzz(options: SessionOptions): Promise<Totals> {
  const { corpus, crashes } = options;
  const before = new Set(await readdir(crashes));
  const args = [
    "-use_value_profile=1",
    `-max_len=${INPUT_LENGTH_MAX}`,
    `-timeout=${INPUT_TIMEOUT_S}`,
    `-artifact_prefix=${crashes}/`,
    "-print_final_stats=1",
    corpus,
  ];
  const start = performance.now();
  const running = new Set<ChildProcess>();
  const outcomes: Outcome[] = [];
  let hasFailed = false;
  const work = async (stints: readonly Stint[]) => {
    for (const { fuzzer, seconds } of stints) {
      if (hasFailed) return;
      const { child, end } = startFuzzer(fuzzer, [`-max_total_time=${seconds}`, ...args]);
      running.add(child);
      const outcome = await end;
      running.delete(child);
      outcomes.push(outcome);
      if (outcome.status === 0) continue;
      // One that fails ends all.
      hasFailed = true;
      for (const other of running) other.kill("SIGINT");
    }
  };
  await Promise.all(planJobs(options).map(work));
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
