// What a predecessor left, and the room for it: all queues of a worker share that.

import { FAULT_INFLIGHT_REGION } from "../../assembly/abi/faults.ts";
import { QUEUES_MAX } from "../../assembly/abi/queue.ts";
import { queueFault, trackInflight } from "../../assembly/index.ts";
import {
  INFLIGHT_DESC_NUM,
  INFLIGHT_REGION_VERSION,
  INFLIGHT_VERSION,
  SPLIT_ENTRIES,
  SPLIT_ENTRY_INFLIGHT,
  SPLIT_ENTRY_SIZE,
} from "../../assembly/spec/inflight.ts";
import { openCore, PLAIN_PTR, SplitDriver, turn } from "./support.ts";

/** Starts a queue of one worker's `queues`, of which so many heads are in flight. Returns its fault. */
function faultOf(queues: u32, size: u32, inFlight: u32): i32 {
  openCore(queues);
  memory.fill(PLAIN_PTR, 0, SPLIT_ENTRIES + size * SPLIT_ENTRY_SIZE);
  store<u16>(PLAIN_PTR, INFLIGHT_VERSION, INFLIGHT_REGION_VERSION);
  store<u16>(PLAIN_PTR, <u16>size, INFLIGHT_DESC_NUM);
  for (let head: u32 = 0; head < inFlight; head++) {
    store<u8>(PLAIN_PTR + SPLIT_ENTRIES + <usize>head * SPLIT_ENTRY_SIZE, 1, SPLIT_ENTRY_INFLIGHT);
  }
  const queue = new SplitDriver(0, size);
  trackInflight(0, PLAIN_PTR, size);
  queue.start();
  turn();
  return queueFault(0);
}

describe("what a predecessor left", () => {
  test("may be all that a ring holds, with up to 32 queues.", () => {
    expect(faultOf(32, 32768, 32768)).not.toBe(FAULT_INFLIGHT_REGION);
  });

  test("may be 4,096 requests a queue with as many queues as there can be.", () => {
    expect(faultOf(QUEUES_MAX, 8192, 4096)).not.toBe(FAULT_INFLIGHT_REGION);
    expect(faultOf(QUEUES_MAX, 8192, 4097)).toBe(FAULT_INFLIGHT_REGION);
  });
});
