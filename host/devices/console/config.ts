// The console's config space (virtio 1.4, 5.3.4): its size, its ports, and a register that prints a character.
import * as spec from "../../../assembly/spec/virtio-console.ts";
import type { ConfigSpace } from "../device.ts";
import type { Port } from "./port.ts";

const UNTOLD = { cols: 80, rows: 24 };

/** Each character that waits for a peer takes a thousand times its size. */
const BACKLOG_MAX = 2048;

export class ConsoleConfig implements ConfigSpace {
  readonly byteLength = spec.CONSOLE_CONFIG_SIZE;

  constructor(private readonly ports: readonly Port[]) {}

  read(): Uint8Array {
    const { cols, rows } = this.console.size ?? UNTOLD;
    const space = Buffer.alloc(spec.CONSOLE_CONFIG_SIZE);
    space.writeUInt16LE(cols, spec.CONSOLE_CONFIG_COLS);
    space.writeUInt16LE(rows, spec.CONSOLE_CONFIG_ROWS);
    space.writeUInt32LE(this.ports.length, spec.CONSOLE_CONFIG_MAX_NR_PORTS);
    return space;
  }

  /**
   * QEMU writes the whole space for any byte of it, so 0, which is what a driver reads, is none that it wants printed. Nothing
   * makes a driver wait here: where there is no room, the character is dropped.
   */
  write(offset: number, bytes: Uint8Array): void {
    const character = bytes[spec.CONSOLE_CONFIG_EMERG_WR - offset] ?? 0;
    if (character !== 0 && this.console.backlog < BACKLOG_MAX) this.console.write(Uint8Array.of(character));
  }

  private get console() {
    return this.ports[0]!.host;
  }
}
