// split.ts, by way of queue.ts: indices, used elements, and who is told of what (virtio 1.4, 2.7).

import { FAULT_AVAIL_RAN_AHEAD, FAULT_TOO_MANY_IN_FLIGHT } from "../../assembly/abi/faults.ts";
import {
  AVAIL_FLAGS,
  AVAIL_IDX,
  USED_FLAGS,
  USED_IDX,
  USED_RING,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_USED_F_NO_NOTIFY,
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
import { nextHead } from "../../assembly/virtqueue/split.ts";
import { Virtqueue } from "../../assembly/virtqueue/state.ts";
import { EVENT_IDX, giveBack, openCore, PLAIN_PTR, SplitDriver, takeAny } from "./support.ts";

let driver: SplitDriver = new SplitDriver();
const queue = changetype<Virtqueue>(PLAIN_PTR);

/** A ring of `size` whose indices all stand at `base`. */
function begin(size: u32, base: u16, flags: u32): void {
  openCore();
  driver = new SplitDriver(0, size, flags);
  store<u16>(driver.driver, base, AVAIL_IDX);
  store<u16>(driver.device, base, USED_IDX);
  driver.availIdx = base;
  driver.lastUsed = base;
  memory.fill(PLAIN_PTR, 0, offsetof<Virtqueue>());
  startRing(queue, size, flags, driver.desc, driver.driver, driver.device, base);
}

function setAvailIdx(idx: u16): void {
  store<u16>(driver.driver, idx, AVAIL_IDX);
}

function take(count: i32): void {
  for (let i = 0; i < count; i++) takeAny(queue, 1);
}

/** Takes and uses `count` chains, without publishing. */
function use(count: i32): void {
  take(count);
  for (let i = 0; i < count; i++) giveBack(queue, 0, 1, 0);
}

describe("the avail ring", () => {
  beforeEach(() => {
    begin(8, 0, 0);
  });

  test("Nothing is available while its index is the base.", () => {
    expect(lookForChain(queue)).toBe(EMPTY);
  });

  test("A chain is available once the index has moved.", () => {
    driver.publish(3);
    expect(lookForChain(queue)).toBe(AVAILABLE);
  });

  test("Heads come in the order of the ring.", () => {
    driver.publish(3);
    driver.publish(1);
    expect(nextHead(queue)).toBe(3);
    takeAny(queue, 1);
    expect(nextHead(queue)).toBe(1);
  });

  test("A chain that was taken is available no more.", () => {
    driver.publish(3);
    takeAny(queue, 1);
    expect(lookForChain(queue)).toBe(EMPTY);
  });

  test("Its last slot is followed by its first.", () => {
    begin(8, 7, 0);
    driver.publish(4);
    driver.publish(5);
    takeAny(queue, 1);
    expect(nextHead(queue)).toBe(5);
  });

  test("As many chains as the ring has slots may be available at once.", () => {
    setAvailIdx(8);
    expect(lookForChain(queue)).toBe(AVAILABLE);
  });

  test("An index more than a ring ahead breaks it.", () => {
    setAvailIdx(9);
    expect(lookForChain(queue)).toBe(FAULT_AVAIL_RAN_AHEAD);
  });

  test("An index that went back breaks it.", () => {
    begin(8, 5, 0);
    setAvailIdx(4);
    expect(lookForChain(queue)).toBe(FAULT_AVAIL_RAN_AHEAD);
  });

  test("More chains than slots in flight break it.", () => {
    setAvailIdx(8);
    take(8);
    setAvailIdx(9);
    expect(lookForChain(queue)).toBe(FAULT_TOO_MANY_IN_FLIGHT);
  });

  test("A used chain makes room for another.", () => {
    setAvailIdx(8);
    take(8);
    setAvailIdx(9);
    giveBack(queue, 0, 1, 0);
    expect(lookForChain(queue)).toBe(AVAILABLE);
  });

  test("Its index wraps at 65536.", () => {
    begin(8, 0xffff, 0);
    driver.publish(2);
    driver.publish(6);
    expect(load<u16>(driver.driver, AVAIL_IDX)).toBe(1);
    expect(lookForChain(queue)).toBe(AVAILABLE);
    expect(nextHead(queue)).toBe(2);
    takeAny(queue, 1);
    expect(lookForChain(queue)).toBe(AVAILABLE);
    expect(nextHead(queue)).toBe(6);
    takeAny(queue, 1);
    expect(lookForChain(queue)).toBe(EMPTY);
  });

  test("An index that runs ahead across the wrap breaks it.", () => {
    begin(8, 0xffff, 0);
    setAvailIdx(8);
    expect(lookForChain(queue)).toBe(FAULT_AVAIL_RAN_AHEAD);
  });

  test("The largest ring works to its last slot.", () => {
    begin(32768, 32767, 0);
    driver.publish(32767);
    expect(lookForChain(queue)).toBe(AVAILABLE);
    expect(nextHead(queue)).toBe(32767);
  });

  test("The base is the index of the chain that is next.", () => {
    begin(8, 0xfffe, 0);
    driver.publish(0);
    driver.publish(1);
    driver.publish(2);
    take(3);
    expect(ringBase(queue)).toBe(1);
  });
});

describe("the used ring", () => {
  beforeEach(() => {
    begin(8, 0, 0);
    take(8);
  });

  test("What was pushed is not seen before it is published.", () => {
    giveBack(queue, 5, 1, 513);
    expect(driver.usedIdx).toBe(0);
  });

  test("An element names the chain and the bytes written.", () => {
    giveBack(queue, 5, 1, 0x12345);
    publishUsed(queue);
    expect(driver.takeUsed()).toBe(true);
    expect(driver.usedId).toBe(5);
    expect(driver.usedLength).toBe(0x12345);
  });

  test("One publish shows all that was pushed.", () => {
    for (let i: u16 = 0; i < 3; i++) giveBack(queue, 7 - i, 1, 100 + i);
    publishUsed(queue);
    expect(driver.usedIdx).toBe(3);
    for (let i: u32 = 0; i < 3; i++) {
      driver.takeUsed();
      expect(driver.usedId).toBe(7 - i);
      expect(driver.usedLength).toBe(100 + i);
    }
  });

  test("Publishing nothing stores nothing.", () => {
    store<u16>(driver.device, 0x5555, USED_IDX);
    publishUsed(queue);
    expect(driver.usedIdx).toBe(0x5555);
  });

  test("Its last slot is followed by its first.", () => {
    begin(8, 7, 0);
    take(2);
    giveBack(queue, 1, 1, 0);
    giveBack(queue, 2, 1, 0);
    expect(load<u32>(driver.device, USED_RING + 7 * 8)).toBe(1);
    expect(load<u32>(driver.device, USED_RING)).toBe(2);
  });

  test("Its index wraps at 65536.", () => {
    begin(8, 0xffff, 0);
    use(2);
    publishUsed(queue);
    expect(driver.usedIdx).toBe(1);
  });

  test("It goes on where the used index in guest memory stands, not at the base.", () => {
    store<u16>(driver.device, 3, USED_IDX);
    startRing(queue, 8, 0, driver.desc, driver.driver, driver.device, 6);
    take(1);
    giveBack(queue, 4, 1, 0);
    publishUsed(queue);
    expect(driver.usedIdx).toBe(4);
    expect(load<u32>(driver.device, USED_RING + 3 * 8)).toBe(4);
    expect(ringBase(queue)).toBe(7);
  });

  test("Starting clears VIRTQ_USED_F_NO_NOTIFY, which a predecessor may have left.", () => {
    store<u16>(driver.device, VIRTQ_USED_F_NO_NOTIFY, USED_FLAGS);
    startRing(queue, 8, 0, driver.desc, driver.driver, driver.device, 0);
    expect(driver.usedFlags).toBe(0);
  });
});

describe("calls without EVENT_IDX", () => {
  beforeEach(() => {
    begin(8, 0, 0);
  });

  test("The driver is told of what was used.", () => {
    use(1);
    publishUsed(queue);
    expect(takeCallWish(queue)).toBe(true);
  });

  test("The driver is told of nothing if nothing was used.", () => {
    expect(takeCallWish(queue)).toBe(false);
  });

  test("The driver is not told of what is not yet published.", () => {
    use(1);
    expect(takeCallWish(queue)).toBe(false);
  });

  test("The driver is told once.", () => {
    use(1);
    publishUsed(queue);
    takeCallWish(queue);
    expect(takeCallWish(queue)).toBe(false);
  });

  test("VIRTQ_AVAIL_F_NO_INTERRUPT keeps calls away.", () => {
    driver.wantCalls(false);
    use(1);
    publishUsed(queue);
    expect(takeCallWish(queue)).toBe(false);
  });

  test("The wish counts as it is after the publish.", () => {
    driver.wantCalls(false);
    use(1);
    publishUsed(queue);
    driver.wantCalls(true);
    expect(takeCallWish(queue)).toBe(true);
  });

  test("Bits beside VIRTQ_AVAIL_F_NO_INTERRUPT mean nothing.", () => {
    store<u16>(driver.driver, <u16>~VIRTQ_AVAIL_F_NO_INTERRUPT, AVAIL_FLAGS);
    use(1);
    publishUsed(queue);
    expect(takeCallWish(queue)).toBe(true);
  });

  test("used_event means nothing.", () => {
    driver.usedEvent = 100;
    use(1);
    publishUsed(queue);
    expect(takeCallWish(queue)).toBe(true);
  });
});

/** Whether using `count` chains from index `from` needs a call when used_event is `event` (2.7.7). */
function callsFor(from: u16, count: i32, event: u16): bool {
  begin(8, from, EVENT_IDX);
  driver.usedEvent = event;
  use(count);
  publishUsed(queue);
  return takeCallWish(queue);
}

describe("calls with EVENT_IDX", () => {
  test("The element with the event's index needs a call.", () => {
    expect(callsFor(0, 1, 0)).toBe(true);
    expect(callsFor(41, 1, 41)).toBe(true);
  });

  test("An element before the event's needs no call.", () => {
    expect(callsFor(0, 1, 1)).toBe(false);
    expect(callsFor(0, 3, 3)).toBe(false);
  });

  test("An element behind the event's needs no call.", () => {
    expect(callsFor(5, 1, 4)).toBe(false);
    expect(callsFor(5, 3, 4)).toBe(false);
  });

  test("A batch needs a call if the event's element is its first, last or any.", () => {
    expect(callsFor(5, 3, 5)).toBe(true);
    expect(callsFor(5, 3, 6)).toBe(true);
    expect(callsFor(5, 3, 7)).toBe(true);
    expect(callsFor(5, 3, 8)).toBe(false);
  });

  test("The event is found across the wrap at 65536.", () => {
    expect(callsFor(0xfffe, 4, 0xfffd)).toBe(false);
    expect(callsFor(0xfffe, 4, 0xfffe)).toBe(true);
    expect(callsFor(0xfffe, 4, 0xffff)).toBe(true);
    expect(callsFor(0xfffe, 4, 0)).toBe(true);
    expect(callsFor(0xfffe, 4, 1)).toBe(true);
    expect(callsFor(0xfffe, 4, 2)).toBe(false);
  });

  test("An event half the index space away needs no call.", () => {
    expect(callsFor(0, 8, 0x8000)).toBe(false);
    expect(callsFor(0x8000, 8, 0)).toBe(false);
  });

  test("Several publishes count as one batch until the wish is looked at.", () => {
    begin(8, 0, EVENT_IDX);
    driver.usedEvent = 0;
    use(1);
    publishUsed(queue);
    use(1);
    publishUsed(queue);
    expect(takeCallWish(queue)).toBe(true);
  });

  test("What the wish was looked at for does not count again.", () => {
    begin(8, 0, EVENT_IDX);
    driver.usedEvent = 0;
    use(1);
    publishUsed(queue);
    takeCallWish(queue);
    use(1);
    publishUsed(queue);
    expect(takeCallWish(queue)).toBe(false);
  });

  test("VIRTQ_AVAIL_F_NO_INTERRUPT means nothing.", () => {
    begin(8, 0, EVENT_IDX);
    driver.wantCalls(false);
    driver.usedEvent = 0;
    use(1);
    publishUsed(queue);
    expect(takeCallWish(queue)).toBe(true);
  });
});

describe("kicks without EVENT_IDX", () => {
  beforeEach(() => {
    begin(8, 0, 0);
  });

  test("VIRTQ_USED_F_NO_NOTIFY keeps them away.", () => {
    enableKicks(queue);
    disableKicks(queue);
    expect<u32>(driver.usedFlags).toBe(VIRTQ_USED_F_NO_NOTIFY);
  });

  test("They are let in again.", () => {
    enableKicks(queue);
    disableKicks(queue);
    enableKicks(queue);
    expect(driver.usedFlags).toBe(0);
  });

  test("avail_event is left alone.", () => {
    store<u16>(driver.device + USED_RING + 8 * 8, 0x7777);
    enableKicks(queue);
    disableKicks(queue);
    expect(driver.availEvent).toBe(0x7777);
  });
});

describe("kicks with EVENT_IDX", () => {
  beforeEach(() => {
    begin(8, 0xfffe, EVENT_IDX);
  });

  test("avail_event asks for one at the chain that is next.", () => {
    enableKicks(queue);
    expect(driver.availEvent).toBe(0xfffe);
  });

  test("avail_event follows the chains taken, across the wrap.", () => {
    enableKicks(queue);
    take(3);
    enableKicks(queue);
    expect(driver.availEvent).toBe(1);
  });

  test("An event at index 0 of a new ring is written as well.", () => {
    begin(8, 0, EVENT_IDX);
    store<u16>(driver.device + USED_RING + 8 * 8, 0x7777);
    enableKicks(queue);
    expect(driver.availEvent).toBe(0);
  });

  test("The flags stay 0 (2.7.10.2).", () => {
    enableKicks(queue);
    disableKicks(queue);
    expect(driver.usedFlags).toBe(0);
  });

  test("A restarted ring writes the event anew, wherever it stands.", () => {
    enableKicks(queue);
    store<u16>(driver.device + USED_RING + 8 * 8, 0x7777);
    startRing(queue, 8, EVENT_IDX, driver.desc, driver.driver, driver.device, 0xfffe);
    enableKicks(queue);
    expect(driver.availEvent).toBe(0xfffe);
  });
});
