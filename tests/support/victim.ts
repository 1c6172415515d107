// A daemon of any device that hostile front-ends visit, and what must be true of it after each of them.
import assert from "node:assert/strict";
import type { FrontEnd, FrontEndOptions } from "../../host/front-end/front-end.ts";
import { ChainDriver, connectDevice } from "./chain-driver.ts";
import { type DeviceSummary, peerOf, startDevice, summaryOf } from "./device-programs.ts";
import { allHaveLeft, type Footprint, footprint, holdsNoMore, SMALL_HEAP } from "./footprint.ts";
import { until } from "./until.ts";
import type { Vringd } from "./vringd.ts";

/**
 * What any device answers in some way: zeroes for a request, and room for more than that. To a disk it is a read of its first
 * sector.
 */
export const HEADER: Buffer = Buffer.alloc(16);
export const ROOM: readonly number[] = [512, 1];

/** Visits before the footprint is taken, so that what is made once is there. */
const WARM_UP = 10;

export class Victim {
  private clean!: Footprint;
  private pid = 0;
  private peers: { close(): void }[] = [];

  private constructor(
    readonly type: string,
    readonly summary: DeviceSummary,
    readonly daemon: Vringd,
  ) {}

  static async start(type: string, args: readonly string[] = ["--log-level=debug"]): Promise<Victim> {
    const daemon = await startDevice(type, ["--packed", ...args], SMALL_HEAP);
    try {
      const victim = new Victim(type, await summaryOf(type), daemon);
      for (let i = 0; i < WARM_UP; i++) await victim.serves(i % 2 === 1);
      await allHaveLeft(daemon);
      victim.clean = footprint(daemon);
      victim.pid = daemon.pid;
      return victim;
    } catch (error) {
      await daemon[Symbol.asyncDispose]();
      throw error;
    }
  }

  get queueCount(): number {
    return this.summary.queues.length;
  }

  /** Whether the device takes each chain of this queue as it comes, and so must answer it. */
  takesAll(queue: number): boolean {
    return this.summary.queues[queue]!.credit === "all";
  }

  /** With all of the device's own features. */
  connect(packed: boolean, options: FrontEndOptions = {}): Promise<FrontEnd> {
    const bits = bitsOf(this.summary.features);
    const { queueCount: queues } = this;
    return connectDevice(this.daemon.socketPath, { packed, bits, queues, ...options });
  }

  /** Somebody comes to the device's host side, and reads or never does. */
  bringPeer(reads: boolean): void {
    const peer = peerOf(this.type, this.daemon.directory, reads);
    if (peer) this.peers.push(peer);
  }

  /** An honest driver has what it asks for on each queue, and gets all its rings back. */
  async serves(packed: boolean, options: FrontEndOptions = {}): Promise<void> {
    await using frontEnd = await this.connect(packed, { queueSize: 16, ...options });
    await this.isHonestTo(frontEnd);
  }

  async isHonestTo(frontEnd: FrontEnd): Promise<void> {
    for (const [index, queue] of frontEnd.queues.entries()) {
      const driver = new ChainDriver(frontEnd, index);
      const posted = [false, true].map((indirect) => driver.post([HEADER], ROOM, { indirect }));
      if (this.takesAll(index)) for (const each of posted) await driver.used(each);
      await frontEnd.stopQueue(index);
      assert.ok(!queue.takeError(), `queue ${index} broke`);
    }
  }

  /** What must be true after every front-end. */
  async isUnharmed(packed: boolean): Promise<void> {
    const { daemon, clean } = this;
    for (const peer of this.peers.splice(0)) peer.close();
    await this.serves(packed);
    await allHaveLeft(daemon);
    assert.equal(daemon.pid, this.pid);
    // Who was at the host side may be noticed late.
    await until(() => daemon.procEntries("fd").length <= clean.fds, "all descriptors are closed");
    holdsNoMore(daemon, clean);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const peer of this.peers.splice(0)) peer.close();
    await this.daemon[Symbol.asyncDispose]();
  }
}

export function bitsOf(mask: bigint): number[] {
  return Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => (mask >> BigInt(bit)) & 1n);
}
