// A back-end's process: started on its cores, watched, and never left behind.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { close } from "../../host/linux/libc.ts";
import { connectUnix } from "../../host/linux/unix-socket.ts";
import { until } from "../support/until.ts";

const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 5000;

const live = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of live) child.kill("SIGKILL");
});

/** Should our own process be killed, the back-end must die with it. */
const guard = ["setpriv", "--pdeathsig", "KILL"];
const hasGuard = spawnSync(guard[0]!, [...guard.slice(1), "true"]).status === 0;

export class BackEndProcess {
  private stderr = "";

  private constructor(
    private readonly child: ChildProcess,
    readonly socketPath: string,
  ) {
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    live.add(child);
    child.once("close", () => live.delete(child));
  }

  /** Resolves once it listens, or is ready as told. Without cores it runs where it likes. */
  static async start(
    command: readonly string[],
    socketPath: string,
    cores: readonly number[],
    isReady?: () => boolean,
  ): Promise<BackEndProcess> {
    const pin = cores.length > 0 ? ["taskset", "-c", cores.join(",")] : [];
    const [program, ...args] = [...(hasGuard ? guard : []), ...pin, ...command];
    // In a process group of its own: a Ctrl-C is ours to act on.
    const child = spawn(program!, args, { stdio: ["ignore", "ignore", "pipe"], detached: true });
    const backEnd = new BackEndProcess(child, socketPath);
    const isUp = isReady ?? (() => backEnd.isListening());
    await until(() => isUp() || backEnd.hasEnded, `${command[0]} listens`, START_TIMEOUT_MS);
    if (backEnd.hasEnded) throw new Error(`${command.join(" ")} ended: ${backEnd.stderr.trim()}`);
    return backEnd;
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** Not every back-end ends when it is told: qemu-storage-daemon 7.2 may wait for its own thread for ever. */
  async stop(): Promise<void> {
    if (!this.hasEnded) {
      const ended = once(this.child, "close");
      this.child.kill("SIGTERM");
      const impatience = setTimeout(() => this.child.kill("SIGKILL"), STOP_TIMEOUT_MS);
      await ended;
      clearTimeout(impatience);
    }
    rmSync(this.socketPath, { force: true });
  }

  private get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  private isListening(): boolean {
    try {
      close(connectUnix(this.socketPath));
      return true;
    } catch {
      return false;
    }
  }
}
