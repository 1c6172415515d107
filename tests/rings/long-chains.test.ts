// Requests in more buffers than one operation of the kernel's takes (IOV_MAX, 1,024).
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  BLK_HEADER_SIZE,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "../../assembly/spec/virtio-blk.ts";
import type { Segment } from "../../host/driver/ring.ts";
import { encodeBlkHeader } from "../../host/front-end/blk-driver.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { tellSeed } from "../support/random.ts";
import { LIBRARY_PROGRAM, Vringd, type VringdOptions } from "../support/vringd.ts";

const MIB = 1 << 20;
const MEMORY = { gpa: 0x1_0000_0000, byteLength: 128 * MIB, userAddress: 0x7f5a_c000_0000 };

const SETUPS: Record<string, VringdOptions> = {
  io_uring: { args: ["--engine=io_uring", "--packed"] },
  threads: { args: ["--engine=threads", "--packed"] },
  "io_uring on a disk": { args: ["--engine=io_uring", "--packed"], onDisk: true },
  "a disk that is an object": { program: [process.execPath, LIBRARY_PROGRAM], args: ["--packed"] },
};

/** `count` buffers of `byteLength` together, none next to another. */
function scattered(frontEnd: FrontEnd, count: number, byteLength: number, isWritable: boolean): Segment[] {
  const first = frontEnd.memory.allocate(16 * MIB);
  const each = Math.floor(byteLength / count);
  const stride = Math.floor((16 * MIB) / count);
  return Array.from({ length: count }, (_, i) => ({
    gpa: first + i * stride,
    length: i + 1 < count ? each : byteLength - each * (count - 1),
    writable: isWritable,
  }));
}

for (const [name, options] of Object.entries(SETUPS)) {
  describe(`long chains with ${name}`, { timeout: 120_000 }, () => {
    let daemon: Vringd;
    before(async () => {
      daemon = await Vringd.start(options);
    });
    after(() => daemon[Symbol.asyncDispose]());

    for (const packed of [false, true]) {
      for (const indirect of [false, true]) {
        const shape = `${packed ? "packed" : "split"}, ${indirect ? "indirect" : "direct"}`;
        for (const count of indirect ? [1025, 5000, 60_000] : [1025, 4000]) {
          test(`data in ${count} buffers goes to the disk and comes back (${shape})`, async (t) => {
            await using frontEnd = await FrontEnd.connect(daemon.socketPath, {
              memory: [MEMORY],
              packed,
              queueSize: indirect ? 128 : 4096,
            });
            const random = tellSeed(t);
            const disk = frontEnd.disk();
            const byteLength = 512 * Math.ceil((count * 7) / 512 + random.below(64));
            const data = random.bytes(byteLength);
            const head = { gpa: frontEnd.memory.allocate(64), length: BLK_HEADER_SIZE, writable: false };
            const status = { gpa: frontEnd.memory.allocate(64), length: 1, writable: true };
            const wrote = await disk.submitAt(
              [head, ...scattered(frontEnd, count, byteLength, false), status],
              Buffer.concat([encodeBlkHeader(VIRTIO_BLK_T_OUT, 8), data]),
              { indirect },
            );
            assert.deepEqual(wrote.written, Buffer.of(VIRTIO_BLK_S_OK));
            assert.ok(daemon.imageBytes(8, byteLength / 512).equals(data), "the image holds something else");
            const got = await disk.submitAt(
              [head, ...scattered(frontEnd, count, byteLength, true), status],
              encodeBlkHeader(VIRTIO_BLK_T_IN, 8),
              { indirect },
            );
            assert.equal(got.usedLength, byteLength + 1);
            assert.ok(got.written.subarray(0, -1).equals(data), "read something else");
            assert.equal(got.written.at(-1), VIRTIO_BLK_S_OK);
          });
        }
      }
    }
  });
}
