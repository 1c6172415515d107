// vringd, the toolbox, as its user runs it: with pipes, or on a terminal of so many columns.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { PROGRAM } from "./vringd.ts";

export const TOOLBOX = join(dirname(PROGRAM), "vringd.mjs");

/** A hang is a failure, however slow the machine is. */
const TIMEOUT_MS = 120_000;

export interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
}

export interface ToolboxOptions {
  /** A command to run it under, such as strace. */
  under?: readonly string[];
  env?: Record<string, string>;
  cwd?: string;
  program?: string;
  /** Whether something can be written to its standard input. */
  hasInput?: true;
  /** It is killed then. */
  timeoutMs?: number;
}

/** A run that has been started. */
export class Run {
  readonly done: Promise<Outcome>;

  constructor(readonly child: ChildProcess) {
    const outcome = { stdout: "", stderr: "" };
    child.stdout!.setEncoding("utf8");
    child.stderr!.setEncoding("utf8");
    child.stdout!.on("data", (chunk) => {
      outcome.stdout += chunk;
    });
    child.stderr!.on("data", (chunk) => {
      outcome.stderr += chunk;
    });
    this.done = once(child, "close").then(([status]) => ({ ...outcome, status }));
  }
}

export function startToolbox(args: readonly string[], options: ToolboxOptions = {}): Run {
  const { under = [], env = {}, cwd, program = TOOLBOX, hasInput, timeoutMs = TIMEOUT_MS } = options;
  const [command, ...rest] = [...under, process.execPath, program, ...args];
  const child = spawn(command!, rest, {
    env: { PATH: process.env.PATH, ...env },
    cwd,
    stdio: [hasInput ? "pipe" : "ignore", "pipe", "pipe"],
    timeout: timeoutMs,
  });
  return new Run(child);
}

export function toolbox(args: readonly string[], options?: ToolboxOptions): Promise<Outcome> {
  return startToolbox(args, options).done;
}

/** What a terminal of that width shows; standard error is the same terminal. */
export function onTerminal(
  columns: number,
  args: readonly string[],
  env: Record<string, string> = { NO_COLOR: "1" },
): Promise<Outcome> {
  const quoted = [process.execPath, TOOLBOX, ...args].map((word) => `'${word}'`).join(" ");
  const child = spawn("script", ["-qec", `stty cols ${columns}; ${quoted}`, "/dev/null"], {
    env: { PATH: process.env.PATH, TERM: "xterm", SHELL: "/bin/sh", ...env },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: TIMEOUT_MS,
  });
  return new Run(child).done;
}
