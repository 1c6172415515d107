// The program vringd-input with a pipe for its events, and what evtest shows of them in a guest.
import { execFileSync } from "node:child_process";
import { closeSync, constants, openSync, readFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { ask } from "./observed.ts";
import { PROGRAM, Vringd } from "./vringd.ts";

const INPUT_PROGRAM = [process.execPath, join(dirname(PROGRAM), "vringd-input.mjs")];

export class InputDaemon {
  private constructor(
    readonly daemon: Vringd,
    private readonly pipe: number,
  ) {}

  /** `args`: what it is, such as --mouse. */
  static async start(...args: readonly string[]): Promise<InputDaemon> {
    const daemon = await Vringd.start({
      program: INPUT_PROGRAM,
      deviceArgs(directory) {
        execFileSync("mkfifo", [join(directory, "events")]);
        return [
          `--events=${join(directory, "events")}`,
          "--events-format=virtio",
          `--control-socket=${join(directory, "control")}`,
          "--log-level=debug",
          ...args,
        ];
      },
    });
    return new InputDaemon(daemon, openSync(join(daemon.directory, "events"), constants.O_RDWR));
  }

  /** Of QEMU. */
  frontEnd(id: string): string[] {
    const { socketPath } = this.daemon;
    return [
      "-chardev",
      `socket,id=${id},path=${socketPath}`,
      "-device",
      `vhost-user-input-pci,chardev=${id}`,
    ];
  }

  /** What fits into a pipe, at once. */
  send(events: readonly (readonly number[])[]): void {
    const bytes = Buffer.alloc(events.length * 8);
    for (const [i, [type, code, value]] of events.entries()) {
      bytes.writeUInt16LE(type!, i * 8);
      bytes.writeUInt16LE(code!, i * 8 + 2);
      bytes.writeInt32LE(value!, i * 8 + 4);
    }
    writeSync(this.pipe, bytes);
  }

  /** `vringd ctl`. */
  async command(command: string, ...args: readonly string[]): Promise<Record<string, unknown>> {
    const socketPath = join(this.daemon.directory, "control");
    const { status, text } = await ask(
      socketPath,
      "POST",
      "/v1/commands",
      JSON.stringify({ command, arguments: args }),
    );
    if (status !== 200) throw new Error(text);
    return JSON.parse(text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    closeSync(this.pipe);
    await this.daemon[Symbol.asyncDispose]();
  }
}

/** What evtest has printed to a file. */
export class Evtest {
  constructor(private readonly path: string) {}

  /** Before the events. */
  get head(): string {
    const [head] = this.text.split("Testing ...");
    return head!;
  }

  /** Its last line may be half. */
  get events(): number[][] {
    const lines = this.text.slice(0, this.text.lastIndexOf("\n") + 1);
    // A report is told in a form of its own.
    const form =
      /^Event: time [\d.]+, (?:type (\d+) \(\w+\), code (\d+) \(\S+\), value (-?[\da-f]+)|-+ SYN_REPORT -+)$/gm;
    return Array.from(lines.matchAll(form), ([, type = "0", code = "0", value = "0"]) => [
      Number(type),
      Number(code),
      Number(value),
    ]);
  }

  private get text(): string {
    return readFileSync(this.path, "utf8").replaceAll("\r", "");
  }
}
