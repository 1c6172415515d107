// NBD servers of others to try ours on: nbdkit and qemu-nbd, each in a directory of its own, that can be killed and started anew.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "./free-port.ts";
import { until } from "./until.ts";

/** Undefined if both programs are here. */
export function nbdUnavailable(): string | undefined {
  const missing = ["nbdkit", "qemu-nbd"].filter((program) => spawnSync(program, ["--version"]).error);
  return missing.length === 0 ? undefined : `no ${missing.join(" and no ")}`;
}

export interface NbdServerOptions {
  program?: "nbdkit" | "qemu-nbd";
  /** On a TCP port of the loopback instead of a Unix socket. */
  tcp?: boolean;
  /** Given the server's directory: arguments besides where to listen. */
  args: (directory: string) => readonly string[];
}

const START_MS = 20_000;
const live = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of live) child.kill("SIGKILL");
});

/** Should our own process be killed, the server must die with it. */
const guard = ["setpriv", "--pdeathsig", "KILL"];

export class NbdServer {
  readonly socketPath: string;
  private child: ChildProcess | undefined;
  messages = "";

  private constructor(
    readonly directory: string,
    private readonly options: NbdServerOptions,
    readonly port: number,
  ) {
    this.socketPath = join(directory, "nbd.sock");
  }

  static async start(options: NbdServerOptions): Promise<NbdServer> {
    const directory = mkdtempSync(join(tmpdir(), "vringd-nbd-"));
    const server = new NbdServer(directory, options, options.tcp ? await freePort() : 0);
    try {
      await server.restart();
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  /** Of an export, with query parameters, as in "x-connections=2". */
  uri(exportName = "", ...parameters: readonly string[]): string {
    if (!this.options.tcp) parameters = [`socket=${this.socketPath}`, ...parameters];
    const where = this.options.tcp ? `nbd://127.0.0.1:${this.port}` : "nbd+unix://";
    return `${where}/${exportName}${parameters.length > 0 ? `?${parameters.join("&")}` : ""}`;
  }

  async restart(args = this.options.args): Promise<void> {
    const pidFile = join(this.directory, "pid");
    rmSync(this.socketPath, { force: true });
    rmSync(pidFile, { force: true });
    const { program = "nbdkit" } = this.options;
    const where = this.whereToListen(program, pidFile);
    const command = [...guard, program, ...where, ...args(this.directory)];
    const child = spawn(command[0]!, command.slice(1), { stdio: ["ignore", "ignore", "pipe"] });
    live.add(child);
    child.once("exit", () => live.delete(child));
    child.stderr.on("data", (text) => {
      this.messages += text;
    });
    this.child = child;
    // Both write it once they listen.
    const hasStarted = () =>
      (existsSync(pidFile) && readFileSync(pidFile, "latin1").endsWith("\n")) || !this.isRunning;
    await until(hasStarted, `${program} starts`, START_MS);
    if (!this.isRunning) throw new Error(`${program} ended: ${this.messages}`);
  }

  get isRunning(): boolean {
    return this.child !== undefined && this.child.exitCode === null && this.child.signalCode === null;
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const { child } = this;
    if (!child || !this.isRunning) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }

  /** Resolves once none of its threads runs any more: until then a signal has only been sent. */
  async suspend(): Promise<void> {
    this.signal("SIGSTOP");
    const tasks = `/proc/${this.child!.pid}/task`;
    const isStopped = (task: string) =>
      /^State:\s+T/m.test(readFileSync(`${tasks}/${task}/status`, "latin1"));
    await until(() => readdirSync(tasks).every(isStopped), "the server stops");
  }

  signal(signal: NodeJS.Signals): void {
    this.child!.kill(signal);
  }

  async kill9(): Promise<void> {
    await this.stop("SIGKILL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill9();
    rmSync(this.directory, { recursive: true, force: true });
  }

  private whereToListen(program: string, pidFile: string): string[] {
    const { tcp } = this.options;
    if (program === "nbdkit") {
      const address = tcp ? ["-i", "127.0.0.1", "-p", String(this.port)] : ["-U", this.socketPath];
      return ["-f", `--pidfile=${pidFile}`, ...address];
    }
    const address = tcp ? ["-b", "127.0.0.1", "-p", String(this.port)] : ["-k", this.socketPath];
    return ["--persistent", "--shared=8", `--pid-file=${pidFile}`, ...address];
  }
}
