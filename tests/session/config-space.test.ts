// A device's configuration space as front-ends ask for it, whatever the device.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ConfigSpace } from "../../host/devices/device.ts";
import { ProtocolError } from "../../host/errors.ts";
import { readConfig, writeConfig } from "../../host/session/config-space.ts";

const WRITABLE = 0;
const MIGRATION = 1;

class Space implements ConfigSpace {
  readonly byteLength = 6;
  readonly bytes = Uint8Array.of(1, 2, 3, 4, 5, 6);
  readonly calls: string[] = [];

  read(): Uint8Array {
    return this.bytes;
  }

  write(offset: number, bytes: Uint8Array): void {
    if (offset !== 4) throw new RangeError("not there");
    this.calls.push(`write ${offset} ${bytes.join()}`);
  }

  restore(offset: number, bytes: Uint8Array): void {
    this.calls.push(`restore ${offset} ${bytes.join()}`);
  }
}

test("any part of 256 bytes can be read, and what lies past the space is zero", () => {
  const space = new Space();
  assert.deepEqual([...readConfig(space, 4, 4)], [5, 6, 0, 0]);
  assert.deepEqual([...readConfig(space, 0x100, 2)], [1, 2], "offsets as virtio-mmio has them");
  assert.deepEqual(readConfig(space, 90, 166), Buffer.alloc(166));
  assert.throws(() => readConfig(space, 90, 167), ProtocolError);
  assert.throws(() => readConfig(space, 0x200, 1), ProtocolError);
});

test("what is read is a copy", () => {
  const space = new Space();
  readConfig(space, 0, 6).fill(0);
  assert.equal(space.bytes[0], 1);
});

test("a driver writes within the space, where the device lets it", () => {
  const space = new Space();
  writeConfig(space, 4, Uint8Array.of(9, 8), WRITABLE);
  assert.deepEqual(space.calls, ["write 4 9,8"]);
  for (const [offset, length] of [
    [0, 1],
    [4, 3],
    [6, 1],
    [255, 1],
  ] as const) {
    assert.throws(() => writeConfig(space, offset, new Uint8Array(length), WRITABLE), ProtocolError);
  }
});

test("a space without write() is read-only, to the driver and to a migration", () => {
  const space = { byteLength: 1, read: () => Uint8Array.of(7) };
  assert.throws(() => writeConfig(space, 0, Uint8Array.of(1), WRITABLE), ProtocolError);
  writeConfig(space, 0, Uint8Array.of(1), MIGRATION);
  assert.equal(readConfig(space, 0, 1)[0], 7);
});

test("a migration restores as much as the space has", () => {
  const space = new Space();
  writeConfig(space, 0, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), MIGRATION);
  writeConfig(space, 6, Uint8Array.of(1), MIGRATION);
  assert.deepEqual(space.calls, ["restore 0 1,2,3,4,5,6"]);
});

test("unknown flags are refused", () => {
  assert.throws(() => writeConfig(new Space(), 4, Uint8Array.of(1), 2), ProtocolError);
});
