// virtqueue/dirty-log.ts and those who call it: which pages are logged, for what, and when.

import { DIRTY_LOG_PAGE, DIRTY_LOG_PTR, DIRTY_LOG_SIZE } from "../../assembly/abi/memory.ts";
import { QUEUE_F_CHAINS } from "../../assembly/abi/queue.ts";
import { isStopped, placeRing, setLogging, stopQueue } from "../../assembly/index.ts";
import { VIRTIO_BLK_S_OK, VIRTIO_BLK_T_GET_ID } from "../../assembly/spec/virtio-blk.ts";
import { logWritten } from "../../assembly/virtqueue/dirty-log.ts";
import {
  allocate,
  beginRequest,
  CALL_FD,
  complete,
  Driver,
  dataGpa,
  endRequest,
  expectUsed,
  finish,
  finishChain,
  hideFromWindows,
  lastFor,
  offerRead,
  offerWrite,
  openCore,
  PackedDriver,
  readable,
  SplitDriver,
  statusGpa,
  turn,
  writable,
  writeForCore,
} from "./support.ts";

const EIO: i32 = 5;
const OK: u8 = <u8>VIRTIO_BLK_S_OK;

/** Where the rings lie for the guest, as far as the log is told: nowhere near buffers. */
const DESC_GPA: u64 = 0x8_0000_0000;
const DEVICE_GPA: u64 = 0x8_1000_0000;

function isLogged(gpa: u64): bool {
  const page = gpa / DIRTY_LOG_PAGE;
  return (load<u8>(<usize>DIRTY_LOG_PTR + <usize>(page >> 3)) & (1 << (<u32>page & 7))) !== 0;
}

/** How many of a page and those that follow are logged. */
function logged(gpa: u64, pages: u64): u64 {
  let count: u64 = 0;
  for (let i: u64 = 0; i < pages; i++) if (isLogged(gpa + i * DIRTY_LOG_PAGE)) count++;
  return count;
}

function clearAll(): void {
  memory.fill(DIRTY_LOG_PTR, 0, 0x200000);
}

/** On a boundary of pages, alone in those that it needs. */
function pages(count: u64): u64 {
  const gpa = allocate((count + 1) * DIRTY_LOG_PAGE);
  return (gpa + DIRTY_LOG_PAGE - 1) & ~(<u64>DIRTY_LOG_PAGE - 1);
}

function start(driver: Driver): void {
  placeRing(0, DESC_GPA, DEVICE_GPA);
  driver.start();
  clearAll();
  setLogging(true);
}

let queue: SplitDriver = new SplitDriver();

function begin(flags: u32 = 0): void {
  openCore();
  queue = new SplitDriver(0, 16, flags);
  start(queue);
  turn();
  clearAll();
}

describe("the bits of the log", () => {
  beforeEach(() => {
    openCore();
    clearAll();
  });

  test("There is one for each page that bytes lie in, the lowest bit of a byte first.", () => {
    logWritten(0x1000 * 9 + 4095, 2);
    expect(load<u8>(DIRTY_LOG_PTR + 1)).toBe(0b110);
    expect(load<u8>(DIRTY_LOG_PTR)).toBe(0);
    logWritten(0, 1);
    expect(load<u8>(DIRTY_LOG_PTR)).toBe(1);
  });

  test("Nothing is logged for no bytes.", () => {
    logWritten(0x1000, 0);
    expect(load<u32>(DIRTY_LOG_PTR)).toBe(0);
  });

  test("What is set stays, and so do its neighbours.", () => {
    store<u8>(DIRTY_LOG_PTR, 0b1010_0000);
    logWritten(0x1000 * 5, 0x3000);
    expect(load<u8>(DIRTY_LOG_PTR)).toBe(0b1110_0000);
  });

  test("What lies past the end of the log is not logged.", () => {
    const end = <u64>DIRTY_LOG_SIZE * 8 * DIRTY_LOG_PAGE;
    const behind = load<u32>(DIRTY_LOG_PTR + DIRTY_LOG_SIZE);
    logWritten(end, 0x10000);
    logWritten(u64.MAX_VALUE - 1, 1);
    expect(load<u32>(DIRTY_LOG_PTR + DIRTY_LOG_SIZE)).toBe(behind);
  });
});

describe("a disk's requests", () => {
  test("A read logs its buffers and its status.", () => {
    begin();
    beginRequest(0, 0);
    const first = pages(2);
    const second = pages(1);
    writable(first, 0x1800);
    writable(second, 0x200);
    endRequest();
    queue.offer();
    turn();
    expect(isLogged(statusGpa)).toBe(false, "before it has ended");
    finish(0x1a00);
    expect(logged(first, 3)).toBe(2);
    expect(isLogged(second)).toBe(true);
    expect(isLogged(statusGpa)).toBe(true);
    expectUsed(queue, OK, 0x1a01);
  });

  test("One that has failed may have written its buffer.", () => {
    begin();
    const buffer = offerInPage();
    turn();
    finish(-EIO);
    expect(isLogged(buffer)).toBe(true);
  });

  test("A write logs its status alone.", () => {
    begin();
    offerWrite(queue, 0, 0x1000);
    const data = dataGpa;
    turn();
    finish(0x1000);
    expect(isLogged(statusGpa)).toBe(true);
    expect(isLogged(data + 0x800) && data / DIRTY_LOG_PAGE !== statusGpa / DIRTY_LOG_PAGE).toBe(false);
  });

  test("The ID is logged, and what the host writes once it has written that.", () => {
    begin();
    const buffer = pages(1);
    hideFromWindows(buffer, 0x1000);
    beginRequest(VIRTIO_BLK_T_GET_ID, 0);
    writable(buffer, 20);
    endRequest();
    queue.offer();
    turn();
    expect(isLogged(buffer)).toBe(false, "before the host has written it");
    writeForCore();
    turn();
    expect(isLogged(buffer)).toBe(true);
    expect(queue.takeUsed()).toBe(true);
  });

  test("Nothing is logged before setLogging(1), nor after setLogging(0).", () => {
    begin();
    setLogging(false);
    const buffer = offerInPage();
    turn();
    finish(0x200);
    expect(isLogged(buffer)).toBe(false);
    expect(isLogged(DEVICE_GPA)).toBe(false);
  });
});

function offerInPage(): u64 {
  beginRequest(0, 0);
  const buffer = pages(1);
  writable(buffer, 0x200);
  endRequest();
  queue.offer();
  return buffer;
}

describe("chains", () => {
  test("All that the device may write is logged, whatever it says of it, and nothing that it may only read.", () => {
    begin(QUEUE_F_CHAINS);
    const given = pages(1);
    const room = pages(3);
    readable(given, 16);
    writable(room, 0x3000);
    queue.offer();
    turn();
    expect(logged(room, 3)).toBe(0);
    finishChain(1);
    expect(logged(room, 3)).toBe(3);
    expect(isLogged(given)).toBe(false);
  });
});

describe("rings", () => {
  test("Of a split ring the used ring is logged, by the first turn too.", () => {
    openCore();
    queue = new SplitDriver(0, 16);
    start(queue);
    turn();
    expect(isLogged(DEVICE_GPA)).toBe(true);
    expect(isLogged(DESC_GPA)).toBe(false);
    clearAll();
    offerRead(queue, 0, 512);
    turn();
    finish(512);
    expect(isLogged(DEVICE_GPA)).toBe(true);
  });

  test("All pages of a long one.", () => {
    openCore();
    queue = new SplitDriver(0, 1024);
    start(queue);
    turn();
    expect(logged(DEVICE_GPA, 4)).toBe(3);
  });

  test("Of a packed one the descriptors and the device's event area.", () => {
    openCore();
    const packed = new PackedDriver();
    start(packed);
    turn();
    expect(isLogged(DEVICE_GPA)).toBe(true);
    expect(isLogged(DESC_GPA)).toBe(true);
  });

  test("In the turn that stops it, and not after that.", () => {
    openCore();
    queue = new SplitDriver();
    // No read of a kick to wait for.
    queue.kickFd = -1;
    start(queue);
    offerRead(queue, 0, 512);
    turn();
    stopQueue(0);
    clearAll();
    finish(512);
    expect(isLogged(DEVICE_GPA)).toBe(true);
    complete(lastFor(CALL_FD), 8);
    turn();
    expect(isStopped(0)).toBe(true);
    clearAll();
    turn();
    expect(isLogged(DEVICE_GPA)).toBe(false);
  });
});
