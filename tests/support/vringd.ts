// The daemon under test: started on a scratch image in a directory of its own, watched, and never left behind.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  accessSync,
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { openConnection } from "../../host/front-end/requests.ts";
import { AS_LISTENER, type HandedDown } from "./descriptor-keeper.ts";
import { until } from "./until.ts";

export interface VringdOptions {
  /** Beside --blk-file and --socket-path, unless they are among these. */
  args?: readonly string[];
  /** A sparse image of this size. */
  byteLength?: number;
  /** On a disk rather than in memory. */
  onDisk?: boolean;
  /** Over the image, with what is written in `changesPath`. */
  overlay?: true;
  /** A socket for --fd, instead of listening at a path. */
  fd?: number;
  /** For --blk-file, in place of an image of ours; no image is made then. */
  blkFile?: string;
  /** Of a program that serves no disk: what it has in place of --blk-file, given a directory for its files. No image is made then. */
  deviceArgs?(directory: string): readonly string[];
  /** What a service manager starts it with: first a socket that listens, and what else it has by then. */
  handedDown?(): HandedDown;
  /** An open descriptor that the daemon finds as 4. */
  inherit?: number;
  /** Beside our own environment. */
  env?: Readonly<Record<string, string>>;
  /** A command to run the daemon under, such as strace. It must become the daemon, so that the pid is the daemon's. */
  under?: readonly string[];
  /** A command to run instead of the bundle that was just built. */
  program?: readonly string[];
  /** When start() resolves: once the log says "ready", unless told that the socket will do. */
  readyWhen?: "accepting";
}

/** An exit status, or the name of the signal that ended it. */
export type Ending = number | NodeJS.Signals;

const IMAGE_SIZE = 64 << 20;
/** More on an emulated processor. */
const START_TIMEOUT_MS = Number(process.env.VRINGD_TEST_START_MS ?? 60_000);
const STOP_TIMEOUT_MS = START_TIMEOUT_MS;
/** What the child finds a handed-down descriptor at: the first behind the standard ones. */
const INHERITED_FD = 3;

/** The bundles lie in build/, those of the tests in build/tests/, and what they share in either. */
const build = fileURLToPath(import.meta.url).replace(/(.*\/build\/).*/s, "$1");
export const PROGRAM = join(build, "vringd-blk.mjs");
export const DRIVER_WASM = join(build, "driver.wasm");
/** A back-end written with the library: a file by a disk in TypeScript. */
export const LIBRARY_PROGRAM = join(build, "tests", "file-disk-program.mjs");
/** A device of chains, written with the library, that keeps a journal. */
export const CHAIN_DEVICE_PROGRAM = join(build, "tests", "chain-device-program.mjs");

const live = new Set<Vringd>();
process.on("exit", () => {
  for (const daemon of live) daemon.abandon();
});
// Without a listener these end the process and no "exit" is heard.
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.once(signal, () => process.exit(1));

/** Should our own process be killed, the daemon must die with it. */
const guard = ["setpriv", "--pdeathsig", "KILL"];
const hasGuard = spawnSync(guard[0]!, [...guard.slice(1), "true"]).status === 0;

export class Vringd {
  readonly imagePath: string;
  readonly socketPath: string;
  readonly changesPath: string;
  /** Of the running daemon: its lines on stderr. */
  log: string[] = [];
  private child!: ChildProcess;
  private ended!: Promise<Ending>;
  private ending: Ending | undefined;

  private constructor(
    /** For its files. */
    readonly directory: string,
    private readonly options: VringdOptions,
  ) {
    this.imagePath = join(directory, "disk.img");
    this.socketPath = join(directory, "blk.sock");
    this.changesPath = join(directory, "changes");
  }

  /** Resolves once the daemon says that it is ready. */
  static async start(options: VringdOptions = {}): Promise<Vringd> {
    const daemon = new Vringd(makeDirectory(options.onDisk ?? false), options);
    live.add(daemon);
    try {
      if (options.blkFile === undefined && options.deviceArgs === undefined) {
        writeFileSync(daemon.imagePath, "");
        truncateSync(daemon.imagePath, options.byteLength ?? IMAGE_SIZE);
      }
      await daemon.restart();
    } catch (error) {
      await daemon[Symbol.asyncDispose]();
      throw error;
    }
    return daemon;
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** Starts it anew, after it has ended, on the same image and socket. */
  async restart(args = this.options.args ?? []): Promise<void> {
    const { under = [], fd, overlay, program = [process.execPath, PROGRAM] } = this.options;
    const handed = this.options.handedDown?.();
    const entrance =
      fd === undefined && !handed ? `--socket-path=${this.socketPath}` : `--fd=${INHERITED_FD}`;
    const isAmong = (given: readonly string[], ...names: string[]) =>
      given.some((arg) => names.some((name) => arg.startsWith(`--${name}=`)));
    const isGiven = (...names: string[]) => isAmong(args, ...names);
    const deviceArgs = this.deviceArgs(isGiven("blk-file"));
    // Each of several devices has an entrance of its own.
    const isEntered = isAmong(
      [...deviceArgs, ...args],
      "socket-path",
      "connect",
      "guest",
      "guests-file",
      "config",
    );
    const command = [
      ...(hasGuard ? guard : []),
      ...under,
      ...(handed ? AS_LISTENER : []),
      ...program,
      ...deviceArgs,
      ...(overlay && !isGiven("overlay") ? [`--overlay=${this.changesPath}`] : []),
      ...(isEntered ? [] : [entrance]),
      ...args,
    ];
    const inherited: readonly (number | "ignore")[] = handed?.fds ?? [
      fd ?? "ignore",
      this.options.inherit ?? "ignore",
    ];
    this.child = spawn(command[0]!, command.slice(1), {
      stdio: ["ignore", "ignore", "pipe", ...inherited],
      env: { ...process.env, ...this.options.env, ...handed?.env },
    });
    this.log = [];
    this.ending = undefined;
    const { log } = this;
    createInterface(this.child.stderr!).on("line", (line) => log.push(line));
    this.ended = new Promise((resolve, reject) => {
      this.child.once("error", reject);
      this.child.once("close", (status, signal) => {
        this.ending = status ?? signal!;
        resolve(this.ending);
      });
    });
    if (this.options.readyWhen === "accepting") await this.accepts();
    else await this.waitForLog(/ ready /, START_TIMEOUT_MS);
  }

  private deviceArgs(hasDisk: boolean): readonly string[] {
    const { deviceArgs, blkFile = this.imagePath } = this.options;
    if (deviceArgs !== undefined) return deviceArgs(this.directory);
    return hasDisk ? [] : [`--blk-file=${blkFile}`];
  }

  private async accepts(): Promise<void> {
    const connection = await openConnection(this.socketPath, START_TIMEOUT_MS);
    connection.close();
  }

  /** The first line that matches, once there is one. */
  async waitForLog(pattern: RegExp, timeoutMs?: number): Promise<string> {
    const line = await until(
      () => this.log.find((line) => pattern.test(line)) ?? this.endedEarly(),
      `the daemon's log shows ${pattern}`,
      timeoutMs,
    );
    if (line instanceof Error) throw line;
    return line;
  }

  linesLike(pattern: RegExp): string[] {
    return this.log.filter((line) => pattern.test(line));
  }

  /** Resolves when the process has ended and its log is complete. */
  async end(timeoutMs = STOP_TIMEOUT_MS): Promise<Ending> {
    await until(() => this.ending !== undefined, "the daemon ends", timeoutMs);
    return this.ended;
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<Ending> {
    if (this.ending === undefined) this.child.kill(signal);
    return this.end();
  }

  /** As when it crashes: nothing of it gets a chance to clean up. */
  async kill9(): Promise<void> {
    await this.stop("SIGKILL");
  }

  get hasEnded(): boolean {
    return this.ending !== undefined;
  }

  /** Sectors of the image as they lie in the file now. */
  imageBytes(sector: number, sectors: number): Buffer {
    const bytes = Buffer.alloc(sectors * 512);
    const fd = openSync(this.imagePath, "r");
    try {
      readSync(fd, bytes, 0, bytes.length, sector * 512);
    } finally {
      closeSync(fd);
    }
    return bytes;
  }

  /** Entries of a directory of the daemon's in /proc, such as "fd" or "task". */
  procEntries(name: string): string[] {
    return readdirSync(`/proc/${this.pid}/${name}`);
  }

  proc(name: string): string {
    return readFileSync(`/proc/${this.pid}/${name}`, "latin1");
  }

  /** Whether it has mapped a memfd whose name begins so: any, without one, as long as a front-end is served. */
  isMapped(name = ""): boolean {
    return this.proc("maps").includes(`/memfd:${name}`);
  }

  /** A field of /proc/PID/status in KiB, such as "VmRSS". */
  memoryKiB(field: string): number {
    return Number(new RegExp(`^${field}:\\s*(\\d+) kB`, "m").exec(this.proc("status"))?.[1]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (this.child !== undefined && this.ending === undefined) await this.stop();
    } finally {
      this.abandon();
    }
  }

  /** Ends it without waiting, and removes all its files. */
  abandon(): void {
    live.delete(this);
    if (this.ending === undefined) this.child?.kill("SIGKILL");
    rmSync(this.directory, { recursive: true, force: true });
  }

  private endedEarly(): Error | undefined {
    if (this.ending === undefined) return undefined;
    return new Error(`the daemon ended with ${this.ending}: ${this.log.join("\n")}`);
  }
}

function makeDirectory(onDisk: boolean): string {
  const parent = onDisk ? diskDirectory() : memoryDirectory();
  mkdirSync(parent, { recursive: true });
  return mkdtempSync(join(parent, "vringd-test-"));
}

/** Not /tmp: that is memory on many systems. */
export function diskDirectory(): string {
  return isWritable("/var/tmp") ? "/var/tmp" : join(build, "tests");
}

export function memoryDirectory(): string {
  return isWritable("/dev/shm") ? "/dev/shm" : tmpdir();
}

function isWritable(directory: string): boolean {
  try {
    accessSync(directory, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
