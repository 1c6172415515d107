// One core, many runtimes: each serves the same disk to the same guest, and must tell the same story of it.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { allRuntimes } from "../support/core-runs.ts";
import { skipWithout } from "../support/skip.ts";

/**
 * What tests/runtimes/scenario.ts tells of a ring. Four writes, the third of which is done when the device crashes; then a queue of
 * chains, which a device gives back from their end.
 */
const storyOf = (format: string, lastBase: string, [parkedBase, chainsBase]: [string, string]) => [
  `${format}: write: status 0, 1 bytes written, the same on the disk`,
  `${format}: read: status 0, 4097 bytes written, the same in the guest`,
  `${format}: flush: status 0, 1 bytes written, 1 reached the disk`,
  `${format}: read past the end: status 1, 1 bytes written`,
  // One more than requests: a ring with an inflight region begins with a call.
  `${format}: calls: 5`,
  `${format}: before the crash: write 3 done`,
  `${format}: the successor writes blocks 2, 3, 5 again`,
  `${format}: after the crash: write 1, write 2, write 4 done`,
  `${format}: blocks 2 to 5: the same, the same, the same, the same`,
  `${format}: another successor finds 0 in flight`,
  `${format}: stopped, base ${lastBase}`,
  `${format}: a chain: chains (flags 0), used: sniahc`,
  `${format}: without credit: none`,
  `${format}: credit for one: first (flags 0)`,
  `${format}: credit for one: second (flags 0)`,
  `${format}: used: tsrif, dnoces`,
  `${format}: parked: base ${parkedBase}, used: none`,
  `${format}: started again: third (flags 0), used: driht`,
  `${format}: the successor: begun (flags 3), new (flags 0), used: nothing, wen`,
  `${format}: chains stopped, base ${chainsBase}`,
];

/** Eight requests: eight heads, or 24 descriptors. Of chains there are four, and then six. */
const STORY = [
  ...storyOf("split", "0x8", ["0x4", "0x6"]),
  ...storyOf("packed", "0x80188018", ["0x8009800c", "0x80128012"]),
];

for (const { name, needs, run } of allRuntimes()) {
  describe(`The core in ${name}`, () => {
    const skip = skipWithout(...needs.map(({ missing }) => missing));

    test("With memory of its own it serves a disk, and survives a crash.", { skip }, async () => {
      assert.deepEqual((await run("plain")).split("\n"), STORY);
    });

    if (name === "a C program") return;
    test("With shared memory it does so too.", { skip }, async () => {
      assert.deepEqual((await run("shared")).split("\n"), STORY);
    });
  });
}
