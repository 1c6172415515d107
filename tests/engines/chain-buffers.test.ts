// What a device reads from a chain and writes into it, over plain memory: every border of buffers, and the end.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ChainCursor } from "../../host/chains/cursor.ts";
import { BufferReader } from "../../host/chains/reader.ts";
import { BufferWriter } from "../../host/chains/writer.ts";
import { ShortChain } from "../../host/devices/device.ts";

/** Sixteen bytes, 1 to 16, in buffers of these sizes. */
function split(memory: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  let at = 0;
  return sizes.map((size) => {
    at += size;
    return memory.subarray(at - size, at);
  });
}

function sixteen(): Uint8Array {
  return Uint8Array.from({ length: 16 }, (_, i) => i + 1);
}

const SPLITS = [[16], [1, 15], [0, 3, 0, 13], [7, 2, 7], Array.from({ length: 16 }, () => 1), [8, 8, 0]];

for (const sizes of SPLITS) {
  test(`numbers and bytes are read from buffers of ${sizes} bytes`, () => {
    const reader = new BufferReader(new ChainCursor(split(sixteen(), sizes)));
    assert.equal(reader.u8(), 0x01);
    assert.equal(reader.u16(), 0x0302);
    assert.equal(reader.u32(), 0x07060504);
    assert.equal(reader.left, 9);
    assert.equal(reader.u64(), 0x0f0e0d0c0b0a0908n);
    assert.deepEqual([...reader.bytes(1)], [16]);
    assert.equal(reader.left, 0);
    assert.deepEqual(reader.rest(), []);
  });

  test(`numbers and bytes are written into buffers of ${sizes} bytes`, () => {
    const memory = new Uint8Array(16);
    const writer = new BufferWriter(new ChainCursor(split(memory, sizes)));
    writer.u8(0x01);
    writer.u16(0x0302);
    writer.u32(0x07060504);
    assert.equal(writer.written, 7);
    writer.u64(0x0f0e0d0c0b0a0908n);
    writer.bytes(Uint8Array.of(16));
    assert.deepEqual(memory, sixteen());
    assert.equal(writer.left, 0);
    assert.equal(writer.written, 16);
  });

  test(`views of buffers of ${sizes} bytes are the memory itself`, () => {
    const memory = sixteen();
    const reader = new BufferReader(new ChainCursor(split(memory, sizes)));
    reader.u8();
    const views = [...reader.views(9), ...reader.rest()];
    assert.ok(views.every(({ length }) => length > 0));
    assert.deepEqual(Buffer.concat(views), Buffer.from(memory.subarray(1)));
    for (const view of views) view.fill(0xff);
    assert.deepEqual([...memory], [1, ...Array(15).fill(0xff)]);
  });
}

test("a copy stays as it was read, whatever the guest does to its memory then", () => {
  const memory = sixteen();
  const copy = new BufferReader(new ChainCursor([memory])).bytes(16);
  memory.fill(0);
  assert.deepEqual(copy, sixteen());
});

test("past the end nothing is read or written, nor moved, and it says so", () => {
  const memory = sixteen();
  const reader = new BufferReader(new ChainCursor(split(memory, [2, 1])));
  assert.throws(() => reader.u32(), ShortChain);
  assert.throws(() => reader.bytes(2 ** 40), ShortChain);
  assert.throws(() => reader.views(4), ShortChain);
  assert.equal(reader.left, 3);
  assert.equal(reader.u16(), 0x0201);
  const writer = new BufferWriter(new ChainCursor(split(memory, [2, 1])));
  assert.throws(() => writer.u32(0), ShortChain);
  assert.throws(() => writer.bytes(new Uint8Array(4)), ShortChain);
  assert.equal(writer.written, 0);
  assert.deepEqual(memory, sixteen());
});

test("lengths that are none are the device's mistake, not the guest's", () => {
  const reader = new BufferReader(new ChainCursor([sixteen()]));
  for (const byteLength of [-1, 0.5, Number.NaN]) {
    assert.throws(() => reader.bytes(byteLength), RangeError);
  }
});

test("a chain without buffers is at its end", () => {
  const reader = new BufferReader(new ChainCursor([]));
  assert.equal(reader.left, 0);
  assert.deepEqual(reader.rest(), []);
  assert.deepEqual([...reader.bytes(0)], []);
  assert.throws(() => reader.u8(), ShortChain);
});

test("a chain that was given back is neither read nor written", () => {
  const cursor = new ChainCursor([sixteen()]);
  const reader = new BufferReader(cursor);
  const writer = new BufferWriter(cursor);
  cursor.close({ whyClosed: () => new Error("the chain was given back") });
  assert.throws(() => reader.u8(), /was given back/);
  assert.throws(() => reader.rest(), /was given back/);
  assert.throws(() => writer.u8(1), /was given back/);
});
