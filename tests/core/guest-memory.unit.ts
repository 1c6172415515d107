// guest-memory.ts: what is guest memory, what a window shows of it, and what is neither.

import { FAULT_ADDRESS } from "../../assembly/abi/faults.ts";
import { REGIONS_MAX, WINDOWS_MAX } from "../../assembly/abi/guest-memory.ts";
import { WORKERS_PTR } from "../../assembly/abi/memory.ts";
import {
  copyFromGuest,
  copyToGuest,
  gpaToPtr,
  missedGpa,
  regionSpan,
  spanTarget,
  useTables,
} from "../../assembly/virtqueue/guest-memory.ts";
import { MISSED, PRESENT } from "../../assembly/virtqueue/results.ts";
import { clearTables, PLAIN_PTR, RAM_PTR, setRegion, setWindow } from "./support.ts";

const GPA: u64 = 0x2_0000_0000;
const HOST: u64 = 0x7fff_0000_0000;
const PAGE: u64 = 0x1000;
/** The last page there is. */
const LAST_PAGE: u64 = 0xffff_ffff_ffff_f000;

function begin(): void {
  clearTables();
  memory.fill(RAM_PTR, 0, 16 * <usize>PAGE);
  memory.fill(PLAIN_PTR, 0, <usize>PAGE);
  useTables(WORKERS_PTR);
}

describe("a window", () => {
  beforeEach(() => {
    begin();
    setRegion(0, GPA, 4 * PAGE, HOST);
    setWindow(0, GPA, PAGE, RAM_PTR);
  });

  test("Its bytes have pointers.", () => {
    expect(gpaToPtr(GPA + 100, 8)).toBe(RAM_PTR + 100);
  });

  test("Its first and its last byte have pointers.", () => {
    expect(gpaToPtr(GPA, 1)).toBe(RAM_PTR);
    expect(gpaToPtr(GPA + PAGE - 1, 1)).toBe(RAM_PTR + <usize>PAGE - 1);
  });

  test("It gives a pointer to all of itself.", () => {
    expect(gpaToPtr(GPA, <u32>PAGE)).toBe(RAM_PTR);
  });

  test("It gives no pointer to bytes of which the last lies behind it.", () => {
    expect(gpaToPtr(GPA + PAGE - 7, 8)).toBe(0);
  });

  test("It gives no pointer to what lies before it.", () => {
    expect(gpaToPtr(GPA - 1, 1)).toBe(0);
  });

  test("It shows bytes no more once its entry is gone.", () => {
    expect(gpaToPtr(GPA, 1)).toBe(RAM_PTR);
    setWindow(0, 0, 0, 0);
    expect(gpaToPtr(GPA, 1)).toBe(0);
  });

  test("It is found where its entry says at once after a change.", () => {
    gpaToPtr(GPA, 1);
    setWindow(0, GPA, PAGE, RAM_PTR + 0x3000);
    expect(gpaToPtr(GPA, 1)).toBe(RAM_PTR + 0x3000);
  });

  test("It is found behind others.", () => {
    setWindow(1, GPA + 2 * PAGE, PAGE, RAM_PTR + 0x2000);
    expect(gpaToPtr(GPA + 2 * PAGE + 5, 1)).toBe(RAM_PTR + 0x2005);
    expect(gpaToPtr(GPA + 5, 1)).toBe(RAM_PTR + 5);
  });

  test("It is found at the end of a full table.", () => {
    for (let i: u32 = 0; i < <u32>WINDOWS_MAX; i++) setWindow(i, GPA + i, 1, RAM_PTR + 2 * i);
    const last = WINDOWS_MAX - 1;
    expect(gpaToPtr(GPA + last, 1)).toBe(RAM_PTR + 2 * last);
  });

  test("Nothing behind the first empty entry counts.", () => {
    setWindow(2, GPA + PAGE, PAGE, RAM_PTR + 0x2000);
    expect(gpaToPtr(GPA + PAGE, 1)).toBe(0);
  });
});

describe("copies from and to the guest", () => {
  beforeEach(() => {
    begin();
    // Neighbours for the guest, apart in linear memory.
    setRegion(0, GPA, 4 * PAGE, HOST);
    setWindow(0, GPA, PAGE, RAM_PTR);
    setWindow(1, GPA + PAGE, PAGE, RAM_PTR + 0x5000);
  });

  test("Bytes are copied out of one window.", () => {
    store<u64>(RAM_PTR + 16, 0x1234567890abcdef);
    expect(copyFromGuest(PLAIN_PTR, GPA + 16, 8)).toBe(PRESENT);
    expect(load<u64>(PLAIN_PTR)).toBe(0x1234567890abcdef);
  });

  test("Bytes are copied into one window.", () => {
    store<u64>(PLAIN_PTR, 0x1234567890abcdef);
    expect(copyToGuest(GPA + 16, PLAIN_PTR, 8)).toBe(PRESENT);
    expect(load<u64>(RAM_PTR + 16)).toBe(0x1234567890abcdef);
  });

  test("Bytes on both sides of a border between windows are copied out as one.", () => {
    store<u32>(RAM_PTR + 0xffc, 0x44332211);
    store<u32>(RAM_PTR + 0x5000, 0x88776655);
    expect(copyFromGuest(PLAIN_PTR, GPA + PAGE - 4, 8)).toBe(PRESENT);
    expect(load<u64>(PLAIN_PTR)).toBe(0x8877665544332211);
  });

  test("Bytes on both sides of a border between windows are copied in as one.", () => {
    store<u64>(PLAIN_PTR, 0x8877665544332211);
    expect(copyToGuest(GPA + PAGE - 4, PLAIN_PTR, 8)).toBe(PRESENT);
    expect(load<u32>(RAM_PTR + 0xffc)).toBe(0x44332211);
    expect(load<u32>(RAM_PTR + 0x5000)).toBe(0x88776655);
  });

  test("A copy stays within its bytes.", () => {
    store<u64>(PLAIN_PTR, 0xffffffffffffffff);
    copyToGuest(GPA + 16, PLAIN_PTR, 3);
    expect(load<u8>(RAM_PTR + 15)).toBe(0);
    expect(load<u32>(RAM_PTR + 16)).toBe(0x00ffffff);
  });

  test("No pointer spans two windows.", () => {
    expect(gpaToPtr(GPA + PAGE - 4, 8)).toBe(0);
  });

  test("Guest memory that no window shows is a miss, and says where.", () => {
    expect(copyFromGuest(PLAIN_PTR, GPA + 2 * PAGE + 3, 8)).toBe(MISSED);
    expect(missedGpa).toBe(GPA + 2 * PAGE + 3);
  });

  test("A miss in mid-copy is that of the first byte that is not shown.", () => {
    expect(copyFromGuest(PLAIN_PTR, GPA + 2 * PAGE - 4, 8)).toBe(MISSED);
    expect(missedGpa).toBe(GPA + 2 * PAGE);
  });

  test("What is no guest memory is a fault, not a miss.", () => {
    expect(copyFromGuest(PLAIN_PTR, GPA + 4 * PAGE, 1)).toBe(FAULT_ADDRESS);
    expect(copyToGuest(GPA - 1, PLAIN_PTR, 1)).toBe(FAULT_ADDRESS);
  });

  test("A copy that runs out of guest memory is a fault.", () => {
    setWindow(2, GPA + 2 * PAGE, 2 * PAGE, RAM_PTR + 0x8000);
    expect(copyFromGuest(PLAIN_PTR, GPA + 4 * PAGE - 4, 8)).toBe(FAULT_ADDRESS);
  });

  test("No bytes are present anywhere.", () => {
    expect(copyFromGuest(PLAIN_PTR, 0, 0)).toBe(PRESENT);
    expect(copyToGuest(u64.MAX_VALUE, PLAIN_PTR, 0)).toBe(PRESENT);
  });

  test("Without any region, everything is a fault.", () => {
    clearTables();
    expect(copyFromGuest(PLAIN_PTR, GPA, 1)).toBe(FAULT_ADDRESS);
    expect(copyFromGuest(PLAIN_PTR, 0, 1)).toBe(FAULT_ADDRESS);
  });
});

describe("the regions", () => {
  beforeEach(() => {
    begin();
    setRegion(0, GPA, PAGE, HOST);
  });

  test("A span has a host address.", () => {
    expect(regionSpan(GPA + 16, 100)).toBe(100);
    expect(spanTarget).toBe(HOST + 16);
  });

  test("A span ends with its region.", () => {
    expect(regionSpan(GPA + PAGE - 10, 100)).toBe(10);
    expect(spanTarget).toBe(HOST + PAGE - 10);
  });

  test("A region ends one byte behind its last.", () => {
    expect(regionSpan(GPA + PAGE - 1, 1)).toBe(1);
    expect(regionSpan(GPA + PAGE, 1)).toBe(0);
  });

  test("A region begins with its first byte.", () => {
    expect(regionSpan(GPA, 1)).toBe(1);
    expect(regionSpan(GPA - 1, 1)).toBe(0);
  });

  test("Regions that touch are walked span by span.", () => {
    setRegion(1, GPA + PAGE, PAGE, HOST + 0x10_0000);
    expect(regionSpan(GPA + PAGE - 10, 100)).toBe(10);
    expect(regionSpan(GPA + PAGE, 90)).toBe(90);
    expect(spanTarget).toBe(HOST + 0x10_0000);
  });

  test("A region at the end of a full table is found.", () => {
    for (let i: u32 = 0; i < <u32>REGIONS_MAX; i++) setRegion(i, GPA + 2 * i, 1, HOST + i);
    const last = REGIONS_MAX - 1;
    expect(regionSpan(GPA + 2 * last, 5)).toBe(1);
    expect(spanTarget).toBe(HOST + last);
  });

  test("A region that was removed is found no more.", () => {
    expect(regionSpan(GPA, 1)).toBe(1);
    setRegion(0, 0, 0, 0);
    expect(regionSpan(GPA, 1)).toBe(0);
  });

  test("A region may be larger than 4 GiB.", () => {
    setRegion(0, GPA, 0x10_0000_0000, HOST);
    expect(regionSpan(GPA + 0xf_ffff_0000, 0x2_0000)).toBe(0x1_0000);
    expect(spanTarget).toBe(HOST + 0xf_ffff_0000);
  });

  test("A span may be larger than 4 GiB.", () => {
    setRegion(0, GPA, 0x10_0000_0000, HOST);
    expect(regionSpan(GPA, 0x3_0000_0000)).toBe(0x3_0000_0000);
  });

  test("A region at guest address 0 is a region like others.", () => {
    setRegion(1, 0, PAGE, HOST + 0x10_0000);
    expect(regionSpan(0, 1)).toBe(1);
    expect(spanTarget).toBe(HOST + 0x10_0000);
  });
});

describe("addresses near 2^64", () => {
  beforeEach(() => {
    begin();
    setRegion(0, LAST_PAGE, PAGE, HOST);
    setWindow(0, LAST_PAGE, PAGE, RAM_PTR);
  });

  test("The very last byte is found.", () => {
    expect(gpaToPtr(u64.MAX_VALUE, 1)).toBe(RAM_PTR + <usize>PAGE - 1);
    expect(regionSpan(u64.MAX_VALUE, 1)).toBe(1);
    expect(spanTarget).toBe(HOST + PAGE - 1);
  });

  test("A span ends at 2^64.", () => {
    expect(regionSpan(u64.MAX_VALUE - 3, 100)).toBe(4);
  });

  test("A pointer does not reach past 2^64.", () => {
    expect(gpaToPtr(u64.MAX_VALUE - 3, 8)).toBe(0);
  });

  test("A copy does not reach past 2^64.", () => {
    expect(copyFromGuest(PLAIN_PTR, u64.MAX_VALUE - 3, 8)).toBe(FAULT_ADDRESS);
  });

  test("They are not taken for addresses above a low region.", () => {
    clearTables();
    setRegion(0, GPA, PAGE, HOST);
    setWindow(0, GPA, PAGE, RAM_PTR);
    expect(regionSpan(u64.MAX_VALUE, 1)).toBe(0);
    expect(gpaToPtr(u64.MAX_VALUE, 1)).toBe(0);
  });
});
