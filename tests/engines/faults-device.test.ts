// What the kernel may answer, and what becomes of it for the guest: over a real socket, on a file system that fails as told.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  SECTOR_SIZE,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../assembly/spec/virtio-blk.ts";
import { type BlkRequest, encodeRanges } from "../../host/front-end/blk-driver.ts";
import { FaultRig } from "../support/fault-rig.ts";
import type { Fault, FileOperation, OperationName } from "../support/faulty-disk.ts";
import { whyNoFuse } from "../support/fuse.ts";
import { MixedLoad } from "../support/mixed-load.ts";
import { type Random, tellSeed } from "../support/random.ts";
import { skipWithout } from "../support/skip.ts";

const EINTR = 4;
const EIO = 5;
const EAGAIN = 11;
const ENOMEM = 12;
const ENOSPC = 28;
const EDQUOT = 122;
const EOPNOTSUPP = 95;

const SECTORS = 16;
const BYTES = SECTORS * SECTOR_SIZE;
const RANGE = encodeRanges([{ sector: 8, sectors: SECTORS }]);

/** One request of each kind, and the operation that it leads to. */
const REQUESTS: [name: string, operation: OperationName, request: BlkRequest][] = [
  ["a read", "read", { type: VIRTIO_BLK_T_IN, sector: 8, inLength: BYTES }],
  ["a write", "write", { type: VIRTIO_BLK_T_OUT, sector: 8, out: Buffer.alloc(BYTES, 1) }],
  ["a flush", "sync", { type: VIRTIO_BLK_T_FLUSH }],
  ["a discard", "allocate", { type: VIRTIO_BLK_T_DISCARD, out: RANGE }],
  ["a write of zeroes", "allocate", { type: VIRTIO_BLK_T_WRITE_ZEROES, out: RANGE }],
];

/** So often in a row the kernel may ask for a retry. */
const RETRIES_MAX = 64;

for (const engine of ["io_uring", "threads"] as const) {
  describe(`storage that fails, with ${engine},`, { skip: skipWithout(whyNoFuse()), timeout: 60_000 }, () => {
    for (const [name, operation, request] of REQUESTS.filter(([, each]) => each !== "sync")) {
      test(`makes ${name} an error at once, and the next one is as good as ever`, async () => {
        await using rig = await FaultRig.start({ engine });
        const { storage, driver } = rig;
        for (const errno of [EIO, ENOMEM, ENOSPC, EDQUOT]) {
          storage.operations.length = 0;
          storage.fault = () => ({ errno });
          assert.equal((await driver.request(request)).status, VIRTIO_BLK_S_IOERR);
          assert.equal(storage.count(operation), 1);
        }
        storage.fault = () => undefined;
        assert.equal((await driver.request(request)).status, VIRTIO_BLK_S_OK);
      });
    }

    for (const [name, operation, request] of REQUESTS) {
      for (const [errnoName, errno] of [
        ["EINTR", EINTR],
        ["EAGAIN", EAGAIN],
      ] as const) {
        test(`that says ${errnoName} to ${name} is asked again`, async () => {
          await using rig = await FaultRig.start({ engine });
          const { storage, driver } = rig;
          storage.fault = () => (storage.count(operation) <= RETRIES_MAX ? { errno } : undefined);
          assert.equal((await driver.request(request)).status, VIRTIO_BLK_S_OK);
          assert.ok(storage.count(operation) > RETRIES_MAX);
        });
      }

      test(`that says EINTR to ${name} for ever makes it an error`, async () => {
        await using rig = await FaultRig.start({ engine });
        const { storage, driver } = rig;
        storage.fault = () => ({ errno: EINTR });
        assert.equal((await driver.request(request)).status, VIRTIO_BLK_S_IOERR);
        assert.equal(storage.count(operation), RETRIES_MAX + 1);
      });
    }

    test("that fails a flush once has failed all later ones", async () => {
      await using rig = await FaultRig.start({ engine });
      const { storage, driver } = rig;
      await driver.write(0, Buffer.alloc(BYTES, 1));
      storage.fault = ({ name }) => (name === "sync" ? { errno: EIO } : undefined);
      for (let i = 0; i < 3; i++) {
        assert.equal((await driver.request({ type: VIRTIO_BLK_T_FLUSH })).status, VIRTIO_BLK_S_IOERR);
      }
      storage.fault = () => undefined;
      assert.equal((await driver.request({ type: VIRTIO_BLK_T_FLUSH })).status, VIRTIO_BLK_S_IOERR);
      // What needs no flush goes on.
      await driver.write(0, Buffer.alloc(BYTES, 2));
    });

    for (const [name, operation, request] of REQUESTS.filter(([, each]) => canBeShort(each, engine))) {
      test(`may fall short of ${name}, and is asked for the rest`, async (t) => {
        const random = tellSeed(t);
        await using rig = await FaultRig.start({ engine });
        const { storage, driver } = rig;
        storage.fault = ({ byteLength }) => ({ moves: random.between(1, byteLength) });
        random.bytes(storage.bytes.length).copy(storage.bytes);
        const { status, data } = await driver.request(request);
        assert.equal(status, VIRTIO_BLK_S_OK);
        const stored = storage.bytes.subarray(8 * SECTOR_SIZE, 8 * SECTOR_SIZE + BYTES);
        assert.ok(stored.equals(operation === "read" ? data : (request.out as Buffer)));
        assert.ok(storage.count(operation) > 1);
      });

      test(`that moves nothing of ${name} makes it an error`, async () => {
        await using rig = await FaultRig.start({ engine });
        const { storage, driver } = rig;
        storage.fault = () => ({ moves: storage.count(operation) === 1 ? 1000 : 0 });
        assert.equal((await driver.request(request)).status, VIRTIO_BLK_S_IOERR);
        assert.ok(storage.count(operation) > 1);
      });
    }

    test("and can't zero a range gets zeroes written, short writes or not", async (t) => {
      const random = tellSeed(t);
      await using rig = await FaultRig.start({ engine });
      const { storage, driver } = rig;
      storage.bytes.fill(7);
      storage.fault = ({ name, byteLength }) =>
        name === "allocate" ? { errno: EOPNOTSUPP } : fallShort(random, byteLength, canBeShort(name, engine));
      await driver.writeZeroes([{ sector: 8, sectors: 4096 }]);
      const expected = Buffer.alloc(storage.bytes.length, 7).fill(0, 8 * SECTOR_SIZE, 4104 * SECTOR_SIZE);
      assert.ok(storage.bytes.equals(expected));
    });

    for (const direct of [false, true]) {
      test(`loses nothing of a mixed load${direct ? " with O_DIRECT" : ""} while it stumbles`, async (t) => {
        const random = tellSeed(t);
        await using rig = await FaultRig.start({
          engine,
          args: direct ? ["--direct", "--block-size=512"] : [],
        });
        const { storage, driver } = rig;
        storage.fault = (operation) =>
          stumble(random, operation, canBeShort(operation.name, direct ? "direct" : engine));
        const load = { count: 1000, depth: 16, firstSector: 0, sectors: 8192, indirect: true };
        const { model } = await MixedLoad.run(driver, { random, ...load });
        assert.ok(storage.bytes.subarray(0, model.length).equals(model));
      });
    }
  });
}

/** FUSE makes an error of a write that falls short, if it is O_DIRECT or io_uring's. */
function canBeShort(operation: OperationName, how: string): boolean {
  return operation === "read" || (operation === "write" && how === "threads");
}

/** What a request survives: a call for a retry, or a part of what was asked for. */
function stumble(random: Random, { byteLength }: FileOperation, isShort: boolean): Fault | undefined {
  if (random.below(10) < 2) return { errno: random.pick([EINTR, EAGAIN]) };
  return fallShort(random, byteLength, isShort && random.below(2) === 0);
}

function fallShort(random: Random, byteLength: number, isShort: boolean): Fault | undefined {
  return isShort ? { moves: random.between(1, byteLength) } : undefined;
}
