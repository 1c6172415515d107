// What the core's functions return of a chain in one i32: none is taken for another.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import * as faults from "../../assembly/abi/faults.ts";
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP } from "../../assembly/spec/virtio-blk.ts";

/** The core's own file: tests know it as text. */
function resultsOfTheCore(): [name: string, value: number][] {
  const text = readFileSync(resolve("assembly/virtqueue/results.ts"), "utf8");
  return [...text.matchAll(/^export const (\w+) = (\w+);$/gm)].map(([, name, value]) => [
    name!,
    Number(value),
  ]);
}

test("results of the core, faults and status bytes have no number in common", () => {
  const results = resultsOfTheCore();
  assert.ok(results.length > 0);
  const all = [
    ...results,
    ...Object.entries(faults),
    ...Object.entries({ VIRTIO_BLK_S_OK, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_UNSUPP }),
  ];
  const names = new Map<number, string>();
  for (const [name, value] of all) {
    assert.equal(names.get(value), undefined, `${name} is ${value}, as is ${names.get(value)}`);
    names.set(value, name);
  }
});
