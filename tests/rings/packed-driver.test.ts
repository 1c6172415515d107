// The packed driver of the tests, against a device written from the specification (virtio 1.4, 2.8).
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import {
  EVENT_FLAGS,
  EVENT_OFF_WRAP,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
} from "../../assembly/spec/virtqueue.ts";
import type { Segment } from "../../host/driver/ring.ts";
import { Memory } from "../../host/front-end/memory.ts";
import { Virtqueue } from "../../host/front-end/virtqueue.ts";
import { drainEventfd, signalEventfd } from "../../host/linux/eventfd.ts";
import { type RawPackedRing, rawPackedRing } from "../support/raw-ring.ts";

interface Chain {
  id: number;
  entries: number;
  lengths: number[];
}

/** Takes chains in order and gives them back in any order. */
class PackedDevice {
  private next = 0;
  private wrap = true;
  private usedAt = 0;
  private usedWrap = true;

  constructor(
    private readonly memory: Memory,
    private readonly ring: RawPackedRing,
  ) {}

  takeAll(): Chain[] {
    const chains = [];
    for (let chain = this.take(); chain !== undefined; chain = this.take()) chains.push(chain);
    return chains;
  }

  take(): Chain | undefined {
    const ring = this.ring.descriptors;
    const { next, wrap } = this;
    const lengths: number[] = [];
    for (let entries = 1; ; entries++) {
      const at = this.next * 16;
      const flags = ring.getUint16(at + 14, true);
      const isAvailable = ((flags & VIRTQ_DESC_F_AVAIL) !== 0) === this.wrap;
      const isUsed = ((flags & VIRTQ_DESC_F_USED) !== 0) === this.wrap;
      if (!isAvailable || isUsed) {
        Object.assign(this, { next, wrap });
        return undefined;
      }
      const length = ring.getUint32(at + 8, true);
      if (flags & VIRTQ_DESC_F_INDIRECT)
        lengths.push(...this.tableLengths(ring.getBigUint64(at, true), length));
      else lengths.push(length);
      this.advance();
      if (!(flags & VIRTQ_DESC_F_NEXT)) return { id: ring.getUint16(at + 12, true), entries, lengths };
    }
  }

  giveBack({ id, entries }: Chain, length: number): void {
    const flags = this.usedWrap ? VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED : 0;
    this.ring.writeDescriptor(this.usedAt, { addr: 0n, len: length, flags, id });
    this.usedAt += entries;
    if (this.usedAt >= this.ring.size) {
      this.usedAt -= this.ring.size;
      this.usedWrap = !this.usedWrap;
    }
  }

  private advance(): void {
    this.next++;
    if (this.next < this.ring.size) return;
    this.next = 0;
    this.wrap = !this.wrap;
  }

  private tableLengths(gpa: bigint, byteLength: number): number[] {
    const table = new DataView(this.memory.view(Number(gpa), byteLength));
    return Array.from({ length: byteLength / 16 }, (_, i) => table.getUint32(i * 16 + 8, true));
  }
}

describe("the packed driver", () => {
  let memory: Memory;
  let queue: Virtqueue;
  let ring: RawPackedRing;
  let device: PackedDevice;

  function makeQueue(size: number, eventIdx = false): void {
    queue?.close();
    queue = new Virtqueue(memory, { packed: true, size, eventIdx });
    ring = rawPackedRing(queue);
    device = new PackedDevice(memory, ring);
  }

  const chain = (...lengths: number[]): Segment[] =>
    lengths.map((length, i) => ({ gpa: memory.regions[0]!.gpa, length, writable: i > 0 }));

  beforeEach(() => {
    memory = new Memory();
    makeQueue(5);
  });

  afterEach(() => {
    queue.close();
    memory.close();
  });

  test("shows nothing before it publishes, and then everything", () => {
    queue.add(chain(1, 2));
    queue.add(chain(3));
    assert.deepEqual(device.takeAll(), []);
    queue.publish();
    const taken = device.takeAll();
    assert.deepEqual(
      taken.map(({ lengths }) => lengths),
      [[1, 2], [3]],
    );
  });

  test("goes round a ring whose size is no power of two, out of order", () => {
    for (let round = 0; round < 50; round++) {
      const tokens = [queue.add(chain(round + 1, 2)), queue.add(chain(round + 1, 2, 3))];
      queue.publish();
      const [first, second] = device.takeAll() as [Chain, Chain];
      assert.deepEqual([first.id, second.id], tokens);
      assert.deepEqual(second.lengths, [round + 1, 2, 3]);
      device.giveBack(second, round);
      device.giveBack(first, round + 1);
      assert.deepEqual(queue.poll(), [
        { token: second.id, length: round },
        { token: first.id, length: round + 1 },
      ]);
      assert.equal(queue.ring.inFlight(), 0);
    }
  });

  test("refuses a chain that the ring has no room for", () => {
    queue.add(chain(1, 2, 3));
    assert.throws(() => queue.add(chain(1, 2, 3)), RangeError);
    queue.add(chain(1, 2));
  });

  test("puts a chain of any length in one entry", () => {
    queue.add(chain(1, 2, 3, 4, 5, 6, 7), { indirect: true });
    queue.publish();
    assert.deepEqual(device.take(), { id: 0, entries: 1, lengths: [1, 2, 3, 4, 5, 6, 7] });
  });

  test("notices a device that uses what was never given", () => {
    device.giveBack({ id: 3, entries: 1, lengths: [] }, 0);
    assert.throws(() => queue.poll(), /3, which is not in flight/);
  });

  test("kicks unless the device says no", () => {
    queue.add(chain(1));
    queue.publish();
    assert.equal(queue.kick(), true);
    ring.deviceEvent[EVENT_FLAGS / 2] = RING_EVENT_FLAGS_DISABLE;
    queue.add(chain(1));
    queue.publish();
    assert.equal(queue.kick(), false);
    assert.equal(queue.kick(true), true);
  });

  test("kicks for what it publishes after a kick that was sent regardless", () => {
    makeQueue(4, true);
    ring.deviceEvent.set([0x8000], EVENT_OFF_WRAP / 2);
    ring.deviceEvent.set([RING_EVENT_FLAGS_DESC], EVENT_FLAGS / 2);
    queue.add(chain(1));
    queue.kick(true);
    queue.publish();
    assert.equal(queue.kick(), true);
  });

  test("kicks when it passes the descriptor that the device waits for, on either lap", () => {
    makeQueue(4, true);
    const kicks: boolean[] = [];
    // Waits for position 2 of the first lap, then for position 1 of the second.
    for (const offWrap of [0x8002, 0x8002, 0x8002, 0x8002, 1, 1, 1]) {
      ring.deviceEvent.set([offWrap], EVENT_OFF_WRAP / 2);
      ring.deviceEvent.set([RING_EVENT_FLAGS_DESC], EVENT_FLAGS / 2);
      queue.add(chain(1));
      queue.publish();
      kicks.push(queue.kick());
      device.giveBack(device.take()!, 0);
      queue.poll();
    }
    assert.deepEqual(kicks, [false, false, true, false, false, true, false]);
  });

  test("asks for a call where it stands, and takes it", async () => {
    makeQueue(4, true);
    queue.add(chain(1));
    queue.publish();
    const waiting = queue.wait(1000);
    assert.deepEqual([...ring.driverEvent], [0x8000, RING_EVENT_FLAGS_DESC]);
    device.giveBack(device.take()!, 7);
    signalEventfd(queue.callFd);
    assert.equal(await waiting, true);
    assert.equal(queue.callCount, 1);
    assert.equal(ring.driverEvent[EVENT_FLAGS / 2], RING_EVENT_FLAGS_DISABLE);
    assert.deepEqual(queue.poll(), [{ token: 0, length: 7 }]);
  });

  test("gives up waiting in time, though a stray call comes", async () => {
    const waiting = queue.wait(20);
    signalEventfd(queue.callFd);
    assert.equal(await waiting, false);
  });

  test("sends its kicks through the eventfd", () => {
    queue.kick(true);
    assert.equal(drainEventfd(queue.kickFd), true);
    assert.equal(queue.kickCount, 1);
  });
});
