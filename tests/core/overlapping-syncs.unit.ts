// stability.ts: of syncs that overlap one alone may be told what the kernel has lost.
import {
  DEVICE_DIRECT_MASK,
  DEVICE_SYNC_PERIOD,
  DEVICE_SYNC_SHARED,
  DEVICE_SYNC_STATE,
  DEVICE_SYNCS,
  DEVICE_WRITE_THROUGH,
  SYNC_SOUND,
  WRITE_THROUGH_ON,
} from "../../assembly/abi/device-block.ts";
import { DEVICE_PTR } from "../../assembly/abi/memory.ts";
import { STEP_POLL, STEP_SYNC_FAILED, STEP_WAIT } from "../../assembly/abi/step.ts";
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_T_FLUSH } from "../../assembly/spec/virtio-blk.ts";
import {
  complete,
  offerPlain,
  offerWrite,
  openCore,
  operation,
  ptrOf,
  SplitDriver,
  setDevice,
  statusGpa,
  turn,
} from "./support.ts";

const EIO: i32 = 5;
const UNTOUCHED: i32 = 0xaa;

let queue: SplitDriver = new SplitDriver();

/** Where its status byte goes. */
function flush(): usize {
  offerPlain(queue, VIRTIO_BLK_T_FLUSH);
  return submitted();
}

function write(sector: u64): usize {
  offerWrite(queue, sector, 512);
  return submitted();
}

function submitted(): usize {
  const status = ptrOf(statusGpa);
  store<u8>(status, <u8>UNTOUCHED);
  turn();
  return status;
}

function end(index: i32, result: i32): u32 {
  complete(operation(index), result);
  return turn();
}

function expectStatus(status: usize, expected: i32): void {
  expect(<i32>load<u8>(status)).toBe(expected);
}

function counted(): u32 {
  return load<u32>(DEVICE_PTR, DEVICE_SYNCS) + load<u32>(DEVICE_PTR, DEVICE_SYNCS + 4);
}

describe("a sync that ends well", () => {
  beforeEach(() => {
    openCore();
    setDevice<u32>(DEVICE_SYNC_STATE, SYNC_SOUND);
    setDevice<u32>(DEVICE_SYNC_SHARED, 1);
    queue = new SplitDriver();
    queue.start();
    turn();
  });

  afterEach(() => {
    expect(counted()).toBe(0);
  });

  test("is answered at once where no other is in flight.", () => {
    const one = flush();
    expect(end(0, 0) & STEP_POLL).toBe(0);
    expectStatus(one, VIRTIO_BLK_S_OK);
    const other = flush();
    end(1, 0);
    expectStatus(other, VIRTIO_BLK_S_OK);
  });

  test("fails with the one that overlapped it, which ends later.", () => {
    const one = flush();
    const other = flush();
    expect(end(0, 0) & (STEP_POLL | STEP_WAIT)).toBe(STEP_POLL);
    expectStatus(one, UNTOUCHED);
    expect(end(1, -EIO) & STEP_SYNC_FAILED).toBe(STEP_SYNC_FAILED);
    expectStatus(other, VIRTIO_BLK_S_IOERR);
    turn();
    expectStatus(one, VIRTIO_BLK_S_IOERR);
  });

  test("is answered well when those that overlapped it have ended well.", () => {
    const one = flush();
    const other = flush();
    end(1, 0);
    expectStatus(other, UNTOUCHED);
    end(0, 0);
    expectStatus(one, VIRTIO_BLK_S_OK);
    expect(turn() & (STEP_POLL | STEP_WAIT)).toBe(STEP_WAIT);
    expectStatus(other, VIRTIO_BLK_S_OK);
  });

  test("waits for none that begin behind it, however many.", () => {
    const first = flush();
    flush();
    end(0, 0);
    // There is always one in flight, and each begins before the one ahead of it ends.
    for (let i = 2; i < 6; i++) {
      flush();
      end(i - 1, 0);
    }
    turn();
    expectStatus(first, VIRTIO_BLK_S_OK);
    end(5, 0);
    turn();
  });

  test("waits for those of other workers, and comes back by itself.", () => {
    setDevice<u32>(DEVICE_SYNCS, 1);
    const one = flush();
    expect(end(0, 0) & (STEP_POLL | STEP_WAIT)).toBe(STEP_POLL);
    expect(turn() & (STEP_POLL | STEP_WAIT)).toBe(STEP_POLL);
    expectStatus(one, UNTOUCHED);
    setDevice<u32>(DEVICE_SYNCS, 0);
    turn();
    expectStatus(one, VIRTIO_BLK_S_OK);
  });

  test("also waits when periods have come to their end, and begin anew.", () => {
    setDevice<u32>(DEVICE_SYNC_PERIOD, u32.MAX_VALUE);
    const one = flush();
    flush();
    end(0, 0);
    expectStatus(one, UNTOUCHED);
    end(1, 0);
    turn();
    expectStatus(one, VIRTIO_BLK_S_OK);
  });

  test("may be a write through; one that is in doubt is in flight until it is known what failed.", () => {
    setDevice<u32>(DEVICE_WRITE_THROUGH, WRITE_THROUGH_ON);
    const one = write(0);
    const other = write(8);
    // It is written once more, without that it be stable.
    end(1, -EIO);
    end(0, 512);
    expectStatus(one, UNTOUCHED);
    end(2, 512);
    turn();
    expectStatus(other, VIRTIO_BLK_S_IOERR);
    expectStatus(one, VIRTIO_BLK_S_IOERR);
  });

  test("is answered at once if it is a direct write, which hears of itself.", () => {
    setDevice<u32>(DEVICE_WRITE_THROUGH, WRITE_THROUGH_ON);
    setDevice<u32>(DEVICE_DIRECT_MASK, 511);
    const one = write(0);
    write(8);
    end(0, 512);
    expectStatus(one, VIRTIO_BLK_S_OK);
    end(1, 512);
  });

  test("is not kept waiting by one that asks for another try and then ends.", () => {
    const one = flush();
    flush();
    end(1, -11);
    end(0, 0);
    expectStatus(one, UNTOUCHED);
    end(2, 0);
    turn();
    expectStatus(one, VIRTIO_BLK_S_OK);
  });
});

test("where each sync hears of its own failure none waits.", () => {
  openCore();
  setDevice<u32>(DEVICE_SYNC_STATE, SYNC_SOUND);
  queue = new SplitDriver();
  queue.start();
  turn();
  const one = flush();
  flush();
  end(0, 0);
  expectStatus(one, VIRTIO_BLK_S_OK);
});
