// A running guest: its console, the marks its init prints there, its time limit and its end.
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GuestDevice } from "./guest-device.ts";
import { MARK } from "./guest-image.ts";

export interface GuestOptions {
  /** Where the back-end listens. */
  socketPath: string;
  /** What it is the back-end of: a disk if left out. */
  device?: GuestDevice;
  /** POSIX sh, run with `set -eu`, `$DISK` and the helpers that guest-image.ts documents. */
  script: string;
  timeoutMs?: number;
  memoryMiB?: number;
  /** Runs the script from the file system on the disk; see makeRootImage. */
  rootFromDisk?: boolean;
  /** Further host programs the script needs, such as "fio". */
  programs?: readonly string[];
  /** Behind those that each guest has. */
  kernelArguments?: readonly string[];
}

export interface GuestResult {
  /** The script's exit status, or null when the guest ended without telling it. */
  exitCode: number | null;
  ok: boolean;
  /** What the script told through `report KEY value`; the last value of a key wins. */
  values: Map<string, string>;
  console: string;
}

export const DEFAULT_TIMEOUT_MS = 300_000;
export const DEFAULT_MEMORY_MIB = 512;
const CONSOLE_TAIL_LINES = 40;

/**
 * Runs a command whose private directory is $0. When it is told to end, as it also is when our process dies, neither
 * the directory nor any process of the command stays behind: user-mode Linux is several, in a group of their own.
 * Descriptor 3 is there because a shell gives a background command no standard input by itself.
 */
const GUARD = `
exec 3<&0
trap 'kill -KILL $! -$!; wait; rm -rf "$0"; exit 143' TERM INT HUP
setsid "$@" <&3 3<&- &
wait $!
`;

interface Waiter {
  pattern: string | RegExp;
  resolve(text: string): void;
  reject(reason: Error): void;
}

export interface Launch {
  command: string;
  args: readonly string[];
  /** Private to the guest; removed when it ends. */
  directory: string;
  env?: NodeJS.ProcessEnv;
  timeoutMs: number | undefined;
}

export class GuestProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  protected readonly ended: Promise<void>;
  readonly #timeoutMs: number;
  readonly #waiters = new Set<Waiter>();
  #console = "";
  /** Where the next waitFor starts to look, so that a second boot is not taken for the first. */
  #cursor = 0;
  /** How the process ended, in words. */
  #end: string | undefined;
  #hasTimedOut = false;

  constructor({ command, args, directory, env, timeoutMs = DEFAULT_TIMEOUT_MS }: Launch) {
    const guard = ["--pdeathsig", "TERM", "sh", "-c", GUARD, directory];
    this.#child = spawn("setpriv", [...guard, command, ...args], { env: { ...process.env, ...env } });
    this.#timeoutMs = timeoutMs;
    const timer = setTimeout(() => {
      this.#hasTimedOut = true;
      this.kill();
    }, timeoutMs);

    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => this.#append(text));
    }
    // A guest that ended does not read its console any more.
    this.#child.stdin.on("error", () => {});
    this.#child.on("error", (error) => this.#append(`${error.message}\n`));
    this.ended = once(this.#child, "close")
      .catch(() => [])
      .then(([status, signal]) => {
        clearTimeout(timer);
        rmSync(directory, { recursive: true, force: true });
        this.#end = `ended (${signal ?? `status ${status}`})`;
        for (const { pattern, reject } of this.#waiters) {
          reject(this.#failure(`${this.#end} before ${pattern}`));
        }
      });
  }

  /** Of the command itself, as long as it runs. */
  get pid(): number {
    const guard = this.#child.pid;
    return Number.parseInt(readFileSync(`/proc/${guard}/task/${guard}/children`, "utf8"), 10);
  }

  get console(): string {
    return this.#console;
  }

  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  /** Waits for text that the console shows after what the previous waitFor found. */
  async waitFor(pattern: string | RegExp, timeoutMs = DEFAULT_TIMEOUT_MS): Promise<string> {
    const found = this.#find(pattern);
    if (found !== undefined) return found;
    if (this.#end !== undefined) throw this.#failure(`${this.#end} before ${pattern}`);

    const { promise, resolve, reject } = withResolvers<string>();
    const waiter: Waiter = { pattern, resolve, reject };
    this.#waiters.add(waiter);
    const late = () => reject(this.#failure(`did not show ${pattern} within ${timeoutMs} ms`));
    const timer = setTimeout(late, timeoutMs);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(waiter);
    }
  }

  /** Waits until the guest has booted and starts the script. */
  async waitForScript(timeoutMs?: number): Promise<void> {
    await this.waitFor(`${MARK} ready`, timeoutMs);
  }

  /** Waits until the script has reported the key, and gives its value. */
  async waitForReport(key: string, timeoutMs?: number): Promise<string> {
    const line = await this.waitFor(new RegExp(`${MARK} report ${key}=.*\n`), timeoutMs);
    return line.slice(line.indexOf("=") + 1).trimEnd();
  }

  /** Makes the next waitFor pass over all that the console shows by now. */
  protected skipConsole(): void {
    this.#cursor = this.#console.length;
  }

  /** Types a line on the guest's console, which is the script's standard input. */
  send(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  kill(): void {
    this.#child.kill("SIGTERM");
  }

  /** Waits for the guest to end by itself; a guest past its time limit is killed and makes this an error. */
  async exit(): Promise<GuestResult> {
    await this.ended;
    if (this.#hasTimedOut) throw this.#failure(`was still running after ${this.#timeoutMs} ms`);
    const status = lastMatch(this.#console, new RegExp(`${MARK} exit (\\d+)$`, "gm"));
    const exitCode = status === undefined ? null : Number(status);
    return { exitCode, ok: exitCode === 0, values: reportedValues(this.#console), console: this.#console };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill();
    await this.ended;
  }

  #append(text: string): void {
    this.#console += text.replaceAll("\r", "");
    for (const waiter of this.#waiters) {
      const found = this.#find(waiter.pattern);
      if (found !== undefined) waiter.resolve(found);
    }
  }

  #find(pattern: string | RegExp): string | undefined {
    const unseen = this.#console.slice(this.#cursor);
    const match = typeof pattern === "string" ? pattern : pattern.exec(unseen)?.[0];
    const index = match === undefined ? -1 : unseen.indexOf(match);
    if (match === undefined || index < 0) return undefined;
    this.#cursor += index + match.length;
    return match;
  }

  #failure(what: string): Error {
    const tail = this.#console.trimEnd().split("\n").slice(-CONSOLE_TAIL_LINES).join("\n");
    return new Error(`The guest ${what}. Its console ended with:\n${tail}`);
  }
}

export function makeGuestDirectory(parent = tmpdir()): string {
  return mkdtempSync(join(parent, "vringd-guest-"));
}

function reportedValues(text: string): Map<string, string> {
  const reports = text.matchAll(new RegExp(`${MARK} report ([^=\n]+)=(.*)$`, "gm"));
  return new Map(Array.from(reports, ([, key = "", value = ""]) => [key, value]));
}

function lastMatch(text: string, pattern: RegExp): string | undefined {
  return [...text.matchAll(pattern)].at(-1)?.[1];
}

function withResolvers<T>() {
  let resolve!: (value: T) => void;
  let reject!: (reason: Error) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
