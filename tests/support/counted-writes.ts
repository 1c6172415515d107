// A guest that writes one sector after the other, all over the disk, each with its number: what a disk was at any moment is known
// from how many it has.
import { SECTOR_SIZE } from "../../assembly/spec/virtio-blk.ts";
import type { BlkDriver } from "../../host/front-end/blk-driver.ts";
import { until } from "./until.ts";

/** Far from the last one, and coming to all if the disk has no multiple of it. */
const STRIDE = 7919;

export class CountedWrites {
  /** Those that have completed. */
  count = 0;
  private isEnding = false;
  private readonly done: Promise<void>;

  constructor(
    private readonly disk: BlkDriver,
    private readonly sectors: number,
  ) {
    this.done = this.write();
  }

  /** Resolves once there are more. */
  async goOn(): Promise<void> {
    const { count } = this;
    await until(() => this.count > count + 1, "the guest goes on");
  }

  async end(): Promise<void> {
    this.isEnding = true;
    await this.done;
  }

  /** How many of the writes these bytes have: all of the first, and none after them. Throws if that is not so. */
  countIn(bytes: Buffer): number {
    let count = 0;
    for (let sector = 0; sector < this.sectors; sector++) {
      count = Math.max(count, bytes.readUInt32LE(sector * SECTOR_SIZE));
    }
    const expected = new Uint32Array(this.sectors);
    for (let number = 1; number <= count; number++) expected[this.sectorOf(number)] = number;
    for (let sector = 0; sector < this.sectors; sector++) {
      const own = bytes.subarray(sector * SECTOR_SIZE, (sector + 1) * SECTOR_SIZE);
      if (!own.equals(numbered(expected[sector]!))) {
        throw new Error(
          `of ${count} writes, sector ${sector} has ${own.readUInt32LE()}, not ${expected[sector]}`,
        );
      }
    }
    return count;
  }

  private async write(): Promise<void> {
    while (!this.isEnding) {
      await this.disk.write(this.sectorOf(this.count + 1), numbered(this.count + 1));
      this.count++;
    }
  }

  private sectorOf(number: number): number {
    return (number * STRIDE) % this.sectors;
  }
}

function numbered(number: number): Buffer {
  return Buffer.from(new Uint32Array(SECTOR_SIZE / 4).fill(number).buffer);
}
