// A program on a terminal of its own, whose keys, screen and window are the test's.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { closeSync, constants, openSync } from "node:fs";
import { DescriptorStream } from "../../host/linux/descriptor-stream.ts";
import { openPty } from "../../host/linux/pty.ts";
import { until } from "./until.ts";

/** A hang is a failure, however slow the machine is. */
const TIMEOUT_MS = 120_000;

export class TerminalSession {
  /** What the screen has shown. */
  shown = "";
  /** The mode of the terminal before the program began. */
  readonly modeBefore: string;
  status: number | NodeJS.Signals | undefined;
  private readonly child: ChildProcess;
  private readonly keyboard: DescriptorStream;
  private readonly master: number;
  /** Our own, without which the terminal would be hung up as soon as the program ends. */
  private readonly slave: number;

  private constructor(
    private readonly path: string,
    master: number,
    command: readonly string[],
  ) {
    this.master = master;
    this.slave = openSync(path, constants.O_RDWR | constants.O_NOCTTY);
    this.stty("sane", "cols", "100", "rows", "30");
    this.modeBefore = this.mode;
    // setsid gives it the terminal as its own, so that it hears of the window's size.
    this.child = spawn("setsid", ["--ctty", ...command], {
      stdio: [this.slave, this.slave, this.slave],
      timeout: TIMEOUT_MS,
    });
    this.child.once("close", (status, signal) => {
      this.status = status ?? signal!;
    });
    this.keyboard = new DescriptorStream(master);
    this.keyboard.on("data", (bytes: Buffer) => {
      this.shown += bytes.toString("latin1");
    });
  }

  static start(command: readonly string[]): TerminalSession {
    const { fd, path } = openPty();
    return new TerminalSession(path, fd, command);
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** As stty(1) has it. */
  get mode(): string {
    return this.stty("-g").trim();
  }

  press(keys: string): void {
    this.keyboard.write(Buffer.from(keys, "latin1"));
  }

  resize(cols: number, rows: number): void {
    this.stty("cols", String(cols), "rows", String(rows));
  }

  /** Nobody reads what it shows. */
  stall(): void {
    this.keyboard.pause();
  }

  goOn(): void {
    this.keyboard.resume();
  }

  async shows(text: string): Promise<void> {
    await until(() => this.shown.includes(text), `the terminal shows ${JSON.stringify(text)}`, TIMEOUT_MS);
  }

  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }

  async end(): Promise<number | NodeJS.Signals> {
    return until(() => this.status, "the program ends", TIMEOUT_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.status === undefined) this.child.kill("SIGKILL");
    await this.end();
    this.keyboard.destroy();
    closeSync(this.slave);
    closeSync(this.master);
  }

  private stty(...args: string[]): string {
    return execFileSync("stty", ["-F", this.path, ...args], { encoding: "utf8" });
  }
}
