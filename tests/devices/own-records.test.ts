// Records that are kept here where the front-end keeps none: nobody else's region is touched.
import assert from "node:assert/strict";
import { test } from "node:test";
import { INFLIGHT_REGION_VERSION } from "../../assembly/spec/inflight.ts";
import { USED_IDX } from "../../assembly/spec/virtqueue.ts";
import { OwnRecords } from "../../host/backend/own-records.ts";
import { close } from "../../host/linux/libc.ts";
import type { InflightDescription } from "../../host/memory/inflight-region.ts";
import type { VringStart } from "../../host/workers/data-plane.ts";

const PART = 64;
const USED_RING = 4096;

class FakeRegion {
  description: InflightDescription | undefined;

  get isSet(): boolean {
    return this.description !== undefined;
  }

  set(description: InflightDescription, fd: number): void {
    close(fd);
    this.description = description;
  }

  forQueue() {
    return this.isSet ? { ptr: PART, entries: 16, isUsed: true } : undefined;
  }
}

function rig(size = 16) {
  const view = new DataView(new ArrayBuffer(256));
  const region = new FakeRegion();
  /** As the ring's used index stands. */
  let usedIdx = 0;
  const memory = { linear: { view }, u16At: (ptr: number) => (ptr === USED_RING + USED_IDX ? usedIdx : 0) };
  const records = new OwnRecords(region, memory, 2);
  const begin = (base: number, inflight = region.forQueue()) => {
    view.setUint16(PART + INFLIGHT_REGION_VERSION, 1, true);
    const start = { index: 0, size, packed: false, base, devicePtr: USED_RING, inflight } as VringStart;
    return records.recorded(start).inflight;
  };
  const give = (count: number) => {
    usedIdx = count;
  };
  return { region, begin, give, isKept: () => view.getUint16(PART + INFLIGHT_REGION_VERSION, true) === 1 };
}

test("a ring without a record gets one, which is kept while the ring goes on and not when it begins anew", () => {
  const { region, begin, isKept } = rig();
  assert.equal(begin(5)?.ptr, PART);
  assert.ok(region.isSet && isKept());
  assert.equal(begin(6)?.ptr, PART);
  assert.ok(isKept());
  assert.equal(begin(0)?.ptr, PART);
  assert.ok(!isKept());
});

test("a ring that has come to its first base again, with chains at its device, keeps its record", () => {
  const { begin, give, isKept } = rig();
  begin(0);
  give(0xfffe);
  begin(0);
  assert.ok(isKept());
});

test("the front-end's region is left as it is, also after one of ours", () => {
  const { region, begin, isKept } = rig();
  begin(0);
  region.description = undefined;
  region.description = { mmapSize: 4096n, mmapOffset: 0n, numQueues: 2, queueSize: 16 };
  const inflight = region.forQueue();
  assert.equal(begin(0, inflight), inflight);
  assert.ok(isKept());
});
