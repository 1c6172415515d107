// Guest memory as byte arrays: the very bytes, whatever borders of regions and chunks they lie over.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ENTRY_LENGTH, ENTRY_TARGET, TABLE_ENTRY_SIZE } from "../../assembly/abi/guest-memory.ts";
import { REGION_TABLE_PTR } from "../../assembly/abi/memory.ts";
import { addressOf } from "../../host/linux/libc.ts";
import { MemoryViews } from "../../host/memory/memory-views.ts";

/** A table of one region, which is `region`. */
function tableOf(region: Uint8Array): DataView {
  const view = new DataView(new ArrayBuffer(REGION_TABLE_PTR + 2 * TABLE_ENTRY_SIZE));
  view.setBigUint64(REGION_TABLE_PTR + ENTRY_LENGTH, BigInt(region.length), true);
  view.setBigUint64(REGION_TABLE_PTR + ENTRY_TARGET, BigInt(addressOf(region)), true);
  return view;
}

test("a range over a border comes in two parts, without a copy", () => {
  const region = new Uint8Array(65536);
  const views = new MemoryViews(tableOf(region), 0, 4096);
  const buffers: Uint8Array[] = [];
  views.append(buffers, addressOf(region) + 8000, 400);
  assert.deepEqual(
    buffers.map(({ length }) => length),
    [192, 208],
  );
  region.fill(1, 8000, 8192);
  buffers[1]!.fill(2);
  assert.ok(buffers[0]!.every((byte) => byte === 1));
  assert.ok(region.subarray(8192, 8400).every((byte) => byte === 2));
  assert.equal(region[8400], 0);
});

test("arrays of the same part share their memory; after forget() it is looked up anew", () => {
  const region = new Uint8Array(65536);
  const table = tableOf(region);
  const views = new MemoryViews(table, 0, 4096);
  const buffers: Uint8Array[] = [];
  views.append(buffers, addressOf(region), 8);
  views.append(buffers, addressOf(region) + 100, 8);
  assert.equal(buffers[0]!.buffer, buffers[1]!.buffer);
  views.forget();
  table.setBigUint64(REGION_TABLE_PTR + ENTRY_LENGTH, 0n, true);
  assert.throws(() => views.append(buffers, addressOf(region), 8), /no region holds host address/);
});
