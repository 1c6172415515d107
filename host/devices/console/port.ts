// One port: its two queues, its host side, and whether anybody is at either end.
import type { HostSide } from "../../streams/host-side.ts";
import { ByteInput, ByteOutput } from "../byte-queues.ts";

/**
 * How long a console's output waits for a peer that does not read. Linux prints with interrupts off, and waits for each line: its
 * watchdogs bite after 10 s.
 */
const CONSOLE_PATIENCE_MS = 5000;

export class Port {
  readonly input: ByteInput;
  readonly output: ByteOutput;
  /** The first port is the console that a kernel finds without being told; one whose name begins with "hvc" is one too. */
  readonly isConsole: boolean;

  constructor(
    readonly id: number,
    readonly name: string,
    readonly host: HostSide,
  ) {
    this.input = new ByteInput(host);
    this.output = new ByteOutput(host);
    this.isConsole = id === 0 || name.startsWith("hvc");
    if (this.isConsole) host.patienceMs = CONSOLE_PATIENCE_MS;
  }

  /** A console is there for the guest even if nobody looks at it. */
  get isHostOpen(): boolean {
    return this.isConsole || this.host.isTaken;
  }
}
