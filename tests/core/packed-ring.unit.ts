// packed.ts, by way of queue.ts: wrap counters, used descriptors and event suppression (virtio 1.4, 2.8).

import { FAULT_TOO_MANY_IN_FLIGHT } from "../../assembly/abi/faults.ts";
import { QUEUE_F_PACKED } from "../../assembly/abi/queue.ts";
import {
  EVENT_FLAGS,
  EVENT_OFF_WRAP,
  PACKED_DESC_FLAGS,
  PACKED_DESC_ID,
  PACKED_DESC_LEN,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
} from "../../assembly/spec/virtqueue.ts";
import {
  disableKicks,
  enableKicks,
  lookForChain,
  publishUsed,
  ringBase,
  startRing,
  takeCallWish,
} from "../../assembly/virtqueue/queue.ts";
import { AVAILABLE, EMPTY } from "../../assembly/virtqueue/results.ts";
import { Virtqueue } from "../../assembly/virtqueue/state.ts";
import { EVENT_IDX, giveBack, openCore, PACKED_BASE, PackedDriver, PLAIN_PTR, takeAny } from "./support.ts";

const AVAIL: u32 = VIRTQ_DESC_F_AVAIL;
const USED: u32 = VIRTQ_DESC_F_USED;
/** Flags of a used descriptor, by the wrap counter of its lap. */
const USED_IN_LAP_1: u32 = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
const USED_IN_LAP_0: u32 = 0;

let driver: PackedDriver = new PackedDriver();
const queue = changetype<Virtqueue>(PLAIN_PTR);

/** What SET_VRING_BASE says of a ring that stands at `slot` in a lap with counter `wrap`, nothing in flight. */
function baseAt(slot: u32, wrap: u32): u32 {
  const position = slot | (wrap << 15);
  return position | (position << 16);
}

function begin(size: u32, base: u32, flags: u32): void {
  openCore();
  driver = new PackedDriver(0, size, flags);
  memory.fill(PLAIN_PTR, 0, offsetof<Virtqueue>());
  startRing(queue, size, flags | QUEUE_F_PACKED, driver.desc, driver.driver, driver.device, base);
}

function setFlags(slot: u32, flags: u32): void {
  store<u16>(driver.slot(slot), <u16>flags, PACKED_DESC_FLAGS);
}

function flagsAt(slot: u32): u32 {
  return load<u16>(driver.slot(slot), PACKED_DESC_FLAGS);
}

function setWish(slot: u32, wrap: u32, flags: u32): void {
  store<u16>(driver.driver, <u16>(slot | (wrap << 15)), EVENT_OFF_WRAP);
  store<u16>(driver.driver, <u16>flags, EVENT_FLAGS);
}

function deviceEvent(): u32 {
  return load<u16>(driver.device, EVENT_OFF_WRAP);
}

function deviceEventFlags(): u32 {
  return load<u16>(driver.device, EVENT_FLAGS);
}

/** Takes and uses a chain of `count` descriptors, without publishing. */
function use(count: u32, id: u16 = 0, byteLength: u32 = 0): void {
  takeAny(queue, count);
  giveBack(queue, id, count, byteLength);
}

describe("available descriptors", () => {
  beforeEach(() => {
    begin(5, PACKED_BASE, 0);
  });

  test("There are none in a ring of zeroes.", () => {
    expect(lookForChain(queue)).toBe(EMPTY);
  });

  test("In the first lap AVAIL is set and USED clear.", () => {
    setFlags(0, AVAIL);
    expect(lookForChain(queue)).toBe(AVAILABLE);
  });

  test("A used descriptor is not available.", () => {
    setFlags(0, USED_IN_LAP_1);
    expect(lookForChain(queue)).toBe(EMPTY);
  });

  test("A descriptor of the other lap is not available.", () => {
    setFlags(0, USED);
    expect(lookForChain(queue)).toBe(EMPTY);
  });

  test("In the second lap AVAIL is clear and USED set.", () => {
    begin(5, baseAt(0, 0), 0);
    setFlags(0, USED);
    expect(lookForChain(queue)).toBe(AVAILABLE);
  });

  test("In the second lap, descriptors of the first are not available, used or not.", () => {
    begin(5, baseAt(0, 0), 0);
    setFlags(0, USED_IN_LAP_1);
    expect(lookForChain(queue)).toBe(EMPTY);
    setFlags(0, AVAIL);
    expect(lookForChain(queue)).toBe(EMPTY);
  });

  test("Other flags do not matter.", () => {
    setFlags(0, AVAIL | VIRTQ_DESC_F_WRITE | 0x7f78);
    expect(lookForChain(queue)).toBe(AVAILABLE);
  });

  test("Only the slot behind the chain that was taken is looked at.", () => {
    for (let slot: u32 = 0; slot < 3; slot++) setFlags(slot, AVAIL);
    takeAny(queue, 3);
    expect(lookForChain(queue)).toBe(EMPTY);
    setFlags(3, AVAIL);
    expect(lookForChain(queue)).toBe(AVAILABLE);
  });

  test("The wrap counter turns with the last slot, in a ring whose size is no power of two.", () => {
    for (let slot: u32 = 0; slot < 5; slot++) takeAny(queue, 1);
    for (let slot: u32 = 0; slot < 5; slot++) giveBack(queue, 0, 1, 0);
    setFlags(0, AVAIL);
    expect(lookForChain(queue)).toBe(EMPTY);
    setFlags(0, USED);
    expect(lookForChain(queue)).toBe(AVAILABLE);
  });

  test("A chain across the end of the ring turns the wrap counter.", () => {
    begin(5, baseAt(4, 1), 0);
    takeAny(queue, 3);
    setFlags(2, USED);
    expect(lookForChain(queue)).toBe(AVAILABLE);
  });

  test("A chain as long as the ring turns the wrap counter and leaves the slot.", () => {
    begin(5, baseAt(3, 1), 0);
    takeAny(queue, 5);
    giveBack(queue, 0, 5, 0);
    setFlags(3, USED);
    expect(lookForChain(queue)).toBe(AVAILABLE);
  });

  test("More descriptors than slots in flight break the ring.", () => {
    takeAny(queue, 5);
    setFlags(0, USED);
    expect(lookForChain(queue)).toBe(FAULT_TOO_MANY_IN_FLIGHT);
  });

  test("The largest ring works to its last slot.", () => {
    begin(32768, baseAt(32767, 1), 0);
    setFlags(32767, AVAIL);
    expect(lookForChain(queue)).toBe(AVAILABLE);
    takeAny(queue, 1);
    setFlags(0, USED);
    expect(lookForChain(queue)).toBe(AVAILABLE);
  });
});

describe("the base", () => {
  test("It is where a new ring begins: slot 0 with wrap counter 1, for available and for used.", () => {
    begin(5, PACKED_BASE, 0);
    expect(ringBase(queue)).toBe(0x80008000);
  });

  test("Bits 0 to 15 are available slot and wrap counter, bits 16 to 31 those of used.", () => {
    begin(256, 0x00120034, 0);
    expect(ringBase(queue)).toBe(0x00120034);
    begin(256, 0x80120034, 0);
    expect(ringBase(queue)).toBe(0x80120034);
    begin(256, 0x00128034, 0);
    expect(ringBase(queue)).toBe(0x00128034);
  });

  test("Taking moves the available half, using the used half.", () => {
    begin(5, PACKED_BASE, 0);
    takeAny(queue, 3);
    expect(ringBase(queue)).toBe(0x80008003);
    giveBack(queue, 0, 2, 0);
    expect(ringBase(queue)).toBe(0x80028003);
  });

  test("Each half turns its own wrap counter.", () => {
    begin(5, PACKED_BASE, 0);
    takeAny(queue, 2);
    takeAny(queue, 3);
    expect(ringBase(queue)).toBe(0x80000000);
    giveBack(queue, 0, 2, 0);
    giveBack(queue, 1, 3, 0);
    expect(ringBase(queue)).toBe(0);
  });
});

describe("used descriptors", () => {
  beforeEach(() => {
    begin(5, PACKED_BASE, 0);
    for (let slot: u32 = 0; slot < 5; slot++) setFlags(slot, AVAIL);
  });

  test("What was pushed is not seen before it is published.", () => {
    use(1, 4, 100);
    expect(flagsAt(0)).toBe(AVAIL);
  });

  test("A used descriptor names the buffer and the bytes written.", () => {
    use(1, 4, 513);
    publishUsed(queue);
    expect(load<u16>(driver.slot(0), PACKED_DESC_ID)).toBe(4);
    expect(load<u32>(driver.slot(0), PACKED_DESC_LEN)).toBe(513);
  });

  test("In the first lap both flags are set.", () => {
    use(1);
    publishUsed(queue);
    expect(flagsAt(0)).toBe(USED_IN_LAP_1);
  });

  test("In the second lap both flags are clear.", () => {
    begin(5, baseAt(0, 0), 0);
    setFlags(0, USED);
    use(1);
    publishUsed(queue);
    expect(flagsAt(0)).toBe(USED_IN_LAP_0);
  });

  test("VIRTQ_DESC_F_WRITE says that bytes were written.", () => {
    use(1, 0, 1);
    publishUsed(queue);
    expect(flagsAt(0)).toBe(USED_IN_LAP_1 | VIRTQ_DESC_F_WRITE);
  });

  test("Of a batch the first flags are written last, with the publish.", () => {
    use(1);
    use(1);
    use(1);
    expect(flagsAt(0)).toBe(AVAIL);
    expect(flagsAt(1)).toBe(USED_IN_LAP_1);
    expect(flagsAt(2)).toBe(USED_IN_LAP_1);
    publishUsed(queue);
    expect(flagsAt(0)).toBe(USED_IN_LAP_1);
  });

  test("Each batch has a first of its own.", () => {
    use(1);
    publishUsed(queue);
    use(1);
    expect(flagsAt(1)).toBe(AVAIL);
    publishUsed(queue);
    expect(flagsAt(1)).toBe(USED_IN_LAP_1);
  });

  test("Publishing nothing stores nothing.", () => {
    use(1);
    publishUsed(queue);
    setFlags(0, 0x5555);
    publishUsed(queue);
    expect(flagsAt(0)).toBe(0x5555);
  });

  test("The next used descriptor stands as many slots on as the chain was long.", () => {
    use(3, 1);
    use(1, 2);
    publishUsed(queue);
    expect(flagsAt(1)).toBe(AVAIL);
    expect(flagsAt(2)).toBe(AVAIL);
    expect(flagsAt(3)).toBe(USED_IN_LAP_1);
    expect(load<u16>(driver.slot(3), PACKED_DESC_ID)).toBe(2);
  });

  test("Chains are used in the order in which they end, whatever their place.", () => {
    takeAny(queue, 1);
    takeAny(queue, 3);
    giveBack(queue, 9, 3, 0);
    giveBack(queue, 8, 1, 0);
    publishUsed(queue);
    expect(load<u16>(driver.slot(0), PACKED_DESC_ID)).toBe(9);
    expect(load<u16>(driver.slot(3), PACKED_DESC_ID)).toBe(8);
  });

  test("A batch across the end of the ring carries the flags of both laps.", () => {
    begin(5, baseAt(4, 1), 0);
    setFlags(4, AVAIL);
    setFlags(0, USED);
    use(1);
    use(1);
    publishUsed(queue);
    expect(flagsAt(4)).toBe(USED_IN_LAP_1);
    expect(flagsAt(0)).toBe(USED_IN_LAP_0);
  });
});

/** Whether using chains of one descriptor needs a call, when the driver's event is `slot` in the lap of `wrap`. */
function callsFor(base: u32, count: i32, slot: u32, wrap: u32): bool {
  begin(5, base, EVENT_IDX);
  setWish(slot, wrap, RING_EVENT_FLAGS_DESC);
  for (let i = 0; i < count; i++) use(1);
  publishUsed(queue);
  return takeCallWish(queue);
}

/** The same for one call wish without an event. */
function callsUnder(wish: u32, flags: u32): bool {
  begin(5, PACKED_BASE, flags);
  setWish(3, 1, wish);
  use(1);
  publishUsed(queue);
  return takeCallWish(queue);
}

describe("calls", () => {
  test("ENABLE lets them in, with and without EVENT_IDX.", () => {
    expect(callsUnder(RING_EVENT_FLAGS_ENABLE, 0)).toBe(true);
    expect(callsUnder(RING_EVENT_FLAGS_ENABLE, EVENT_IDX)).toBe(true);
  });

  test("DISABLE keeps them away, with and without EVENT_IDX.", () => {
    expect(callsUnder(RING_EVENT_FLAGS_DISABLE, 0)).toBe(false);
    expect(callsUnder(RING_EVENT_FLAGS_DISABLE, EVENT_IDX)).toBe(false);
  });

  test("DESC without EVENT_IDX, which is not valid, loses none.", () => {
    expect(callsUnder(RING_EVENT_FLAGS_DESC, 0)).toBe(true);
  });

  test("The reserved value loses none.", () => {
    expect(callsUnder(3, EVENT_IDX)).toBe(true);
  });

  test("Reserved bits of the flags mean nothing.", () => {
    expect(callsUnder(0xfffc | RING_EVENT_FLAGS_DISABLE, 0)).toBe(false);
    expect(callsUnder(0xfffc | RING_EVENT_FLAGS_ENABLE, 0)).toBe(true);
  });

  test("The driver is told of nothing if nothing was published.", () => {
    begin(5, PACKED_BASE, 0);
    use(1);
    expect(takeCallWish(queue)).toBe(false);
  });

  test("The driver is told once.", () => {
    begin(5, PACKED_BASE, 0);
    use(1);
    publishUsed(queue);
    takeCallWish(queue);
    expect(takeCallWish(queue)).toBe(false);
  });
});

describe("calls at an event", () => {
  test("The event's descriptor needs a call.", () => {
    expect(callsFor(baseAt(0, 1), 1, 0, 1)).toBe(true);
    expect(callsFor(baseAt(3, 1), 1, 3, 1)).toBe(true);
  });

  test("A descriptor before the event's needs no call.", () => {
    expect(callsFor(baseAt(0, 1), 1, 1, 1)).toBe(false);
    expect(callsFor(baseAt(0, 1), 3, 3, 1)).toBe(false);
  });

  test("A descriptor behind the event's needs no call.", () => {
    expect(callsFor(baseAt(2, 1), 2, 1, 1)).toBe(false);
  });

  test("The same slot in another lap needs no call.", () => {
    expect(callsFor(baseAt(1, 1), 1, 1, 0)).toBe(false);
    expect(callsFor(baseAt(1, 0), 1, 1, 1)).toBe(false);
  });

  test("A batch across the end of the ring finds an event on either side.", () => {
    expect(callsFor(baseAt(3, 1), 4, 2, 1)).toBe(false);
    expect(callsFor(baseAt(3, 1), 4, 3, 1)).toBe(true);
    expect(callsFor(baseAt(3, 1), 4, 4, 1)).toBe(true);
    expect(callsFor(baseAt(3, 1), 4, 0, 0)).toBe(true);
    expect(callsFor(baseAt(3, 1), 4, 1, 0)).toBe(true);
    expect(callsFor(baseAt(3, 1), 4, 2, 0)).toBe(false);
  });

  test("The same across the end of a lap with counter 0.", () => {
    expect(callsFor(baseAt(3, 0), 4, 4, 0)).toBe(true);
    expect(callsFor(baseAt(3, 0), 4, 1, 1)).toBe(true);
    expect(callsFor(baseAt(3, 0), 4, 2, 1)).toBe(false);
    expect(callsFor(baseAt(3, 0), 4, 2, 0)).toBe(false);
  });

  test("The last slot is found by a batch that ends with it.", () => {
    expect(callsFor(baseAt(3, 1), 2, 4, 1)).toBe(true);
    expect(callsFor(baseAt(3, 1), 1, 4, 1)).toBe(false);
  });

  test("A chain passes the events of all its descriptors.", () => {
    for (let slot: u32 = 0; slot < 5; slot++) {
      begin(5, PACKED_BASE, EVENT_IDX);
      setWish(slot, 1, RING_EVENT_FLAGS_DESC);
      use(3);
      publishUsed(queue);
      expect(takeCallWish(queue)).toBe(slot < 3);
    }
  });

  test("An offset past the ring never comes.", () => {
    expect(callsFor(baseAt(0, 1), 4, 0x7fff, 1)).toBe(false);
  });
});

describe("kicks", () => {
  test("Without EVENT_IDX they are disabled and enabled by flags.", () => {
    begin(5, PACKED_BASE, 0);
    enableKicks(queue);
    expect(deviceEventFlags()).toBe(RING_EVENT_FLAGS_ENABLE);
    disableKicks(queue);
    expect(deviceEventFlags()).toBe(RING_EVENT_FLAGS_DISABLE);
    enableKicks(queue);
    expect(deviceEventFlags()).toBe(RING_EVENT_FLAGS_ENABLE);
  });

  test("A new ring enables what a predecessor disabled.", () => {
    begin(5, PACKED_BASE, 0);
    store<u16>(driver.device, RING_EVENT_FLAGS_DISABLE, EVENT_FLAGS);
    enableKicks(queue);
    expect(deviceEventFlags()).toBe(RING_EVENT_FLAGS_ENABLE);
  });

  test("So does a ring that is started again.", () => {
    begin(5, PACKED_BASE, 0);
    enableKicks(queue);
    store<u16>(driver.device, RING_EVENT_FLAGS_DISABLE, EVENT_FLAGS);
    startRing(queue, 5, QUEUE_F_PACKED, driver.desc, driver.driver, driver.device, PACKED_BASE);
    enableKicks(queue);
    expect(deviceEventFlags()).toBe(RING_EVENT_FLAGS_ENABLE);
  });

  test("With EVENT_IDX they are asked for at the descriptor that is next.", () => {
    begin(5, PACKED_BASE, EVENT_IDX);
    takeAny(queue, 3);
    enableKicks(queue);
    expect(deviceEventFlags()).toBe(RING_EVENT_FLAGS_DESC);
    expect(deviceEvent()).toBe(0x8003);
  });

  test("The event carries the wrap counter.", () => {
    begin(5, baseAt(4, 1), EVENT_IDX);
    takeAny(queue, 2);
    enableKicks(queue);
    expect(deviceEvent()).toBe(0x0001);
  });

  test("A whole lap later the event differs by its wrap counter alone.", () => {
    begin(5, PACKED_BASE, EVENT_IDX);
    enableKicks(queue);
    expect(deviceEvent()).toBe(0x8000);
    use(5);
    enableKicks(queue);
    expect(deviceEvent()).toBe(0x0000);
  });

  test("With EVENT_IDX nothing is disabled: the driver has passed the event.", () => {
    begin(5, PACKED_BASE, EVENT_IDX);
    enableKicks(queue);
    disableKicks(queue);
    expect(deviceEventFlags()).toBe(RING_EVENT_FLAGS_DESC);
  });
});
