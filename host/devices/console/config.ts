// The console's config space (virtio 1.4, 5.3.4): its size, its ports, and a register that prints a character.
import type { WindowSize } from "../../linux/pty.ts";
import type { ConfigSpace } from "../device.ts";

const COLS = 0;
const ROWS = 2;
const MAX_NR_PORTS = 4;
const EMERG_WR = 8;
const SIZE = 12;

export class ConsoleConfig implements ConfigSpace {
  readonly byteLength = SIZE;
  size: WindowSize = { cols: 80, rows: 24 };

  constructor(
    private readonly portCount: number,
    private readonly print: (character: number) => void,
  ) {}

  read(): Uint8Array {
    const space = Buffer.alloc(SIZE);
    space.writeUInt16LE(this.size.cols, COLS);
    space.writeUInt16LE(this.size.rows, ROWS);
    space.writeUInt32LE(this.portCount, MAX_NR_PORTS);
    return space;
  }

  /** QEMU writes the whole space for any byte of it, so 0, which is what a driver reads, is none that it wants printed. */
  write(offset: number, bytes: Uint8Array): void {
    const character = bytes[EMERG_WR - offset] ?? 0;
    if (character !== 0) this.print(character);
  }
}
