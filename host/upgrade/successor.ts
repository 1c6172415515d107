// The process that is to go on in our place, as we see it: our child, which we can end until it has taken over.
import { type ChildProcess, spawn } from "node:child_process";
import { type Stats, statSync } from "node:fs";
import { isAbsolute } from "node:path";
import { reasonOf } from "../errors.ts";
import { close } from "../linux/libc.ts";
import { unixPair } from "../linux/unix-socket.ts";
import { isHangupIgnored } from "../process/signals.ts";
import { Channel } from "./channel.ts";
import { SUCCESSOR_FD } from "./messages.ts";

/** Behind the standard descriptors. */
const CHANNEL_FD = 3;

/** One that has closed its end is about to end itself. */
const EXIT_MS = 1000;

/** The successor has taken over, and is gone: what it has begun may go on in the kernel, so nobody may go on here. */
export class SuccessorLost extends Error {
  override readonly name = "SuccessorLost";
}

/** What to start, in place of what this process was started from: a program, or a module for the same Node. */
export type Command = readonly [file: string, ...args: string[]];

/** Throws RangeError for a program that somebody else could have put there: it runs with our rights. */
export function commandOf(binary: string | undefined, args: readonly string[]): Command {
  const node = [process.execPath, ...process.execArgv] as const;
  const [, own = process.execPath] = process.argv;
  // A single executable has no module.
  if (binary === undefined) return own === process.execPath ? [own, ...args] : [...node, own, ...args];
  checkOwner(binary);
  return /\.[cm]?js$/.test(binary) ? [...node, binary, ...args] : [binary, ...args];
}

const WRITABLE_BY_OTHERS = 0o022;

function checkOwner(path: string): void {
  if (!isAbsolute(path)) throw new RangeError(`${path} is no whole path`);
  let stats: Stats;
  try {
    stats = statSync(path);
  } catch (error) {
    throw new RangeError(`${path} can't be started: ${reasonOf(error)}`);
  }
  const isTrusted = stats.uid === 0 || stats.uid === process.geteuid!();
  if (isTrusted && (stats.mode & WRITABLE_BY_OTHERS) === 0) return;
  throw new RangeError(
    `${path} is another user's, or others may write to it: a successor must be root's, or that of the user whom this process runs as`,
  );
}

export class Successor {
  /** How. */
  readonly ended: Promise<string>;

  private constructor(
    private readonly child: ChildProcess,
    private readonly channel: Channel,
    private readonly file: string,
  ) {
    this.ended = new Promise((resolve) => {
      child.on("exit", (status, signal) => resolve(`ended with ${signal ?? `status ${status}`}`));
      child.on("error", (error) => resolve(`can't be started: ${reasonOf(error)}`));
    });
  }

  /** Whatever goes wrong shows in receive(). */
  static start([file, ...args]: Command): Successor {
    const [ours, theirs] = unixPair();
    const env = {
      ...process.env,
      [SUCCESSOR_FD]: String(CHANNEL_FD),
      // Node gives a child the default of every signal.
      ...(isHangupIgnored() && { VRINGD_SIGHUP_IGNORED: "1" }),
    };
    try {
      // A single executable is the program that it is called.
      const { argv0 } = file === process.execPath ? process : { argv0: file };
      const child = spawn(file, args, { stdio: ["inherit", "inherit", "inherit", theirs], env, argv0 });
      return new Successor(child, new Channel(ours), file);
    } finally {
      close(theirs);
    }
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** Whether it hears it shows in what it says next. */
  tell(message: object): void {
    this.channel.send(message).catch(() => {});
  }

  /**
   * What it says next. Rejects with a RangeError, a sentence, if it does not say it in time, or says that it failed; it has ended then.
   * `late`: what it has not done, with the time that it had. `isWord`: from what it says on it may start rings.
   */
  async receive<T extends object>(timeoutMs: number, late: string, isWord = false): Promise<T> {
    const message = this.channel.receive() as Promise<(T & { failed?: string }) | undefined>;
    const isLate = await isLonger(timeoutMs, message);
    if (isLate) await this.end();
    const said = await message;
    if (said?.failed !== undefined) throw new RangeError(said.failed);
    // It has said so at the last moment.
    if (said !== undefined && isLate && isWord)
      throw new SuccessorLost(`${this.file} was ended when it had taken over`);
    if (said !== undefined && !isLate) return said;
    if (await isLonger(EXIT_MS, this.ended)) await this.end();
    throw new RangeError(`${this.file} ${isLate ? late : await this.ended}`);
  }

  /** At once. Resolves when nothing of it is left. */
  async end(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.ended;
  }

  /** It has ended. */
  close(): void {
    this.channel.close();
  }

  /** It goes on without us. */
  letGo(): void {
    this.child.unref();
  }
}

/** Whether it takes longer. */
async function isLonger(timeoutMs: number, task: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<true>((resolve) => {
    timer = setTimeout(() => resolve(true), timeoutMs);
  });
  const isLate = await Promise.race([late, task.then(() => false)]);
  clearTimeout(timer);
  return isLate;
}
