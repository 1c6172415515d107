// A disk's configuration space and features, against the layout in virtio 1.4, 5.2.4.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as blk from "../../assembly/spec/virtio-blk.ts";
import { CacheMode } from "../../host/devices/block/cache-mode.ts";
import { BlockConfig, blockFeatures } from "../../host/devices/block/config.ts";
import { featureMask, hasFeature } from "../../host/protocol/feature-bits.ts";
import { BLK_OPTIONS, fakeDisk } from "../support/fakes.ts";

const FLUSH = featureMask([blk.VIRTIO_BLK_F_FLUSH]);
const CONFIG_WCE = featureMask([blk.VIRTIO_BLK_F_CONFIG_WCE]);

function configOf(features = 0n, options = BLK_OPTIONS): { config: BlockConfig; cache: CacheMode } {
  const cache = new CacheMode();
  cache.negotiate(features);
  return { config: new BlockConfig(fakeDisk(), options, cache), cache };
}

function writebackOf(config: BlockConfig): number {
  return config.read()[blk.BLK_CONFIG_WRITEBACK]!;
}

test("the whole space is as recorded", () => {
  const config = Buffer.from(configOf().config.read()).toString("hex");
  const fields = [
    "0000200000000000", // capacity: 1 GiB in sectors
    "00001000", // size_max
    "7e000000", // seg_max: 126
    "00000000", // geometry
    "00020000", // blk_size
    "03000800", // topology: 4096 physical, minimum I/O 8 blocks
    "00000000",
    "01000400", // writeback, unused, num_queues
    "f8ff3f00", // max_discard_sectors
    "01000000",
    "08000000", // discard_sector_alignment
    "f8ff3f00", // max_write_zeroes_sectors
    "01000000",
    "01000000", // write_zeroes_may_unmap
    "00".repeat(36), // secure erase, zones
  ];
  assert.equal(config, fields.join(""));
});

test("storage that wants larger pieces says so", () => {
  const disk = { ...fakeDisk(), blockSize: 4096, discardAlignment: 64 << 10, optimalBytes: 4 << 20 };
  const space = Buffer.from(new BlockConfig(disk, BLK_OPTIONS, new CacheMode()).read());
  assert.equal(space.readUInt32LE(blk.BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT), 128, "in sectors");
  assert.equal(space.readUInt32LE(blk.BLK_CONFIG_OPT_IO_SIZE), 1024, "in blocks");
});

test("a read-only disk offers RO, and nothing that writes", () => {
  const features = blockFeatures({ readOnly: true });
  assert.ok(hasFeature(features, blk.VIRTIO_BLK_F_RO));
  assert.ok(!hasFeature(features, blk.VIRTIO_BLK_F_DISCARD));
  assert.ok(!hasFeature(features, blk.VIRTIO_BLK_F_WRITE_ZEROES));
});

test("writeback starts at 1", () => {
  assert.equal(writebackOf(configOf().config), 1);
});

test("writeback starts at 0 for a driver that can toggle it and can't flush", () => {
  const { config, cache } = configOf(CONFIG_WCE);
  assert.equal(writebackOf(config), 0);
  assert.ok(cache.isWriteThrough);
});

test("writes are stable at once for those who can't flush", () => {
  const modes = [0n, FLUSH, FLUSH | CONFIG_WCE].map((features) => configOf(features).cache.isWriteThrough);
  assert.deepEqual(modes, [true, false, false]);
});

test("a driver writes writeback, 0 or 1, and nothing else", () => {
  const { config, cache } = configOf(FLUSH | CONFIG_WCE);
  config.write(blk.BLK_CONFIG_WRITEBACK, Buffer.from([0]));
  assert.equal(writebackOf(config), 0);
  assert.ok(cache.isWriteThrough);
  for (const [offset, bytes] of [
    [blk.BLK_CONFIG_WRITEBACK, [2]],
    [blk.BLK_CONFIG_WRITEBACK, [1, 1]],
    [blk.BLK_CONFIG_WRITEBACK, []],
    [blk.BLK_CONFIG_CAPACITY, [1]],
  ] as const) {
    assert.throws(() => config.write(offset, Buffer.from(bytes)), RangeError);
  }
  assert.equal(writebackOf(config), 0);
});

test("a driver's front-end may write all of the space for writeback, with the rest as it was", () => {
  const { config } = configOf(FLUSH | CONFIG_WCE);
  const sent = Buffer.from(config.read()).subarray(0, 60);
  config.write(0, sent);
  assert.equal(writebackOf(config), 1);
  sent[blk.BLK_CONFIG_WRITEBACK] = 0;
  config.write(0, sent);
  assert.equal(writebackOf(config), 0);
  sent[blk.BLK_CONFIG_CAPACITY] = 1;
  assert.throws(() => config.write(0, sent), RangeError);
});

test("a migration restores writeback among the fields that it sends", () => {
  const { config } = configOf();
  const sent = config.read().slice(0, 60);
  sent[blk.BLK_CONFIG_WRITEBACK] = 0;
  config.restore(0, sent);
  assert.equal(writebackOf(config), 0);
});

test("no request may have more segments than the kernel takes", () => {
  const { config } = configOf(0n, { ...BLK_OPTIONS, queueSize: 32768 });
  assert.equal(Buffer.from(config.read()).readUInt32LE(blk.BLK_CONFIG_SEG_MAX), 1022);
});
