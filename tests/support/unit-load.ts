// Writers of small units of a disk, each at its own ones, that go on whatever becomes of what lies behind the disk; and what they have
// written last.
import assert from "node:assert/strict";
import type { BlkDriver } from "../../host/front-end/blk-driver.ts";
import type { Random } from "./random.ts";
import { until } from "./until.ts";

const UNIT = 8;
const UNIT_BYTES = UNIT * 512;
const UNITS = 256;
const WRITERS = 8;
/** Enough that every part of a cluster has had some. */
const SOME = 50;

export class UnitLoad {
  private readonly contents: (Buffer | undefined)[] = Array(UNITS).fill(undefined);
  private readonly writers: Promise<void>[];
  private writes = 0;
  private isOver = false;

  constructor(
    private readonly disk: BlkDriver,
    private readonly random: Random,
    private readonly patienceMs: number,
  ) {
    disk.requestTimeoutMs = patienceMs;
    this.writers = Array.from({ length: WRITERS }, (_, writer) => this.write(writer));
  }

  /** Resolves when some more have been written since. */
  async someMore(): Promise<void> {
    const before = this.writes;
    const failure = Promise.all(this.writers).then(() => new Promise<never>(() => {}));
    const more = until(() => this.writes > before + SOME, "writes go on", this.patienceMs);
    await Promise.race([more, failure]);
  }

  async end(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.writers);
  }

  /** What the disk must hold, once it has ended. */
  check(found: Buffer): void {
    for (const [unit, bytes = Buffer.alloc(UNIT_BYTES)] of this.contents.entries()) {
      const at = unit * UNIT_BYTES;
      assert.ok(found.subarray(at, at + UNIT_BYTES).equals(bytes), `unit ${unit} holds something else`);
    }
  }

  private async write(writer: number): Promise<void> {
    while (!this.isOver) {
      const unit = this.random.below(UNITS / WRITERS) * WRITERS + writer;
      const bytes = this.random.bytes(UNIT_BYTES);
      await this.disk.write(unit * UNIT, bytes);
      this.contents[unit] = bytes;
      this.writes++;
    }
  }
}
