// A shell on a terminal of its own, to press keys in.
import { type ChildProcess, spawn } from "node:child_process";
import { until } from "./until.ts";

/** zsh looks at all its functions first, which takes its time on a busy machine. */
const START_TIMEOUT_MS = 60_000;
const TYPE_TIMEOUT_MS = 30_000;

export class ShellSession {
  private output = "";

  private constructor(private readonly child: ChildProcess) {
    child.stdout!.on("data", (data) => {
      this.output += data;
    });
  }

  /** `setUp` is typed, line by line; the last must make Ctrl-T print the line being edited, as <<LINE>>. */
  static async start(command: string, cwd: string, setUp: readonly string[]): Promise<ShellSession> {
    // script(1) gives it a terminal.
    const child = spawn("script", ["-qec", command, "/dev/null"], {
      cwd,
      env: { PATH: process.env.PATH, HOME: cwd, TERM: "dumb", INPUTRC: "/dev/null", LC_ALL: "C.UTF-8" },
      stdio: ["pipe", "pipe", "inherit"],
    });
    const session = new ShellSession(child);
    session.press(`stty cols 200\n${setUp.map((line) => `${line}\n`).join("")}echo READ''Y\n`);
    try {
      await until(() => session.output.includes("READY"), "the shell is ready", START_TIMEOUT_MS);
    } catch (error) {
      await session[Symbol.asyncDispose]();
      throw error;
    }
    return session;
  }

  /** The line as it is after these keys, and what was printed meanwhile. */
  async type(keys: string): Promise<{ line: string; printed: string }> {
    this.output = "";
    this.press(`${keys}\x14`);
    const match = await until(
      () => /<<(.*)>>/.exec(this.output) ?? undefined,
      `the shell has seen ${JSON.stringify(keys)}`,
      TYPE_TIMEOUT_MS,
    );
    const printed = this.output;
    // To the start, and drop what follows.
    this.press("\x01\x0b");
    return { line: match[1]!, printed };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.stdin!.end();
    this.child.kill("SIGTERM");
    await until(() => this.child.exitCode ?? this.child.signalCode, "the shell ends");
  }

  private press(keys: string): void {
    this.child.stdin!.write(keys);
  }
}
