// What of a disk moves with its guest to another back-end: the cache mode that the driver has chosen.
//
//   0   u64  "vringblk"
//   8   u32  1: the form's version
//   12  u32  0: write-through, 1: write-back, 2: the driver has chosen neither
import type { DeviceState } from "../device.ts";
import type { CacheMode } from "./cache-mode.ts";

const NAME = "vringblk";
const VERSION = 1;
const VERSION_AT = 8;
const WRITEBACK_AT = 12;
const BYTE_LENGTH = 16;
const NOT_CHOSEN = 2;

export class BlockState implements DeviceState {
  constructor(private readonly cache: CacheMode) {}

  save(): Uint8Array {
    const { chosen } = this.cache;
    const bytes = Buffer.alloc(BYTE_LENGTH);
    bytes.write(NAME, "latin1");
    bytes.writeUInt32LE(VERSION, VERSION_AT);
    bytes.writeUInt32LE(chosen === undefined ? NOT_CHOSEN : Number(chosen), WRITEBACK_AT);
    return bytes;
  }

  load(bytes: Uint8Array): void {
    const state = Buffer.from(bytes);
    const isOurs = state.length === BYTE_LENGTH && state.toString("latin1", 0, NAME.length) === NAME;
    if (!isOurs) throw new RangeError(`${state.length} bytes that are no state of a disk of vringd`);
    const version = state.readUInt32LE(VERSION_AT);
    if (version !== VERSION)
      throw new RangeError(`a disk's state in version ${version}, of which only 1 is known`);
    const writeback = state.readUInt32LE(WRITEBACK_AT);
    if (writeback > NOT_CHOSEN) throw new RangeError(`a disk's state with writeback ${writeback}`);
    if (writeback !== NOT_CHOSEN) this.cache.choose(writeback === 1);
  }
}
