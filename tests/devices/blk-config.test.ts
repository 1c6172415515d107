// The configuration space and the features, against the layout in virtio 1.4, 5.2.4.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as blk from "../../assembly/spec/virtio-blk.ts";
import { VIRTIO_F_RING_PACKED } from "../../assembly/spec/virtqueue.ts";
import { BlkConfig, deviceFeatures } from "../../host/devices/block/config.ts";
import { ProtocolError } from "../../host/errors.ts";
import { featureMask, hasFeature } from "../../host/protocol/feature-bits.ts";
import { BLK_OPTIONS, fakeDisk } from "../support/fakes.ts";

const WRITABLE = 0;
const MIGRATION = 1;
const FLUSH = featureMask([blk.VIRTIO_BLK_F_FLUSH]);
const CONFIG_WCE = featureMask([blk.VIRTIO_BLK_F_CONFIG_WCE]);

function writebackOf(config: BlkConfig): number {
  return config.read(blk.BLK_CONFIG_WRITEBACK, 1)[0]!;
}

test("the whole space is as recorded", () => {
  const config = new BlkConfig(fakeDisk(), BLK_OPTIONS).read(0, blk.BLK_CONFIG_SIZE).toString("hex");
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

test("what lies past the last field is zero", () => {
  const config = new BlkConfig(fakeDisk(), BLK_OPTIONS);
  assert.deepEqual(config.read(90, 166), Buffer.alloc(166));
  assert.throws(() => config.read(90, 167), ProtocolError);
});

test("a read-only disk offers RO, and nothing that writes", () => {
  const features = deviceFeatures({ readOnly: true }, false);
  assert.ok(hasFeature(features, blk.VIRTIO_BLK_F_RO));
  assert.ok(!hasFeature(features, blk.VIRTIO_BLK_F_DISCARD));
  assert.ok(!hasFeature(features, blk.VIRTIO_BLK_F_WRITE_ZEROES));
});

test("packed rings are offered only when asked for", () => {
  assert.ok(!hasFeature(deviceFeatures({ readOnly: false }, false), VIRTIO_F_RING_PACKED));
  assert.ok(hasFeature(deviceFeatures({ readOnly: false }, true), VIRTIO_F_RING_PACKED));
});

test("writeback starts at 1", () => {
  assert.equal(writebackOf(new BlkConfig(fakeDisk(), BLK_OPTIONS)), 1);
});

test("writeback starts at 0 for a driver that can toggle it and can't flush", () => {
  const config = new BlkConfig(fakeDisk(), BLK_OPTIONS);
  config.negotiate(CONFIG_WCE);
  assert.equal(writebackOf(config), 0);
  assert.ok(config.isWriteThrough);
});

test("writes are stable at once for those who can't flush", () => {
  const config = new BlkConfig(fakeDisk(), BLK_OPTIONS);
  const modes = [0n, FLUSH, FLUSH | CONFIG_WCE].map((features) => {
    config.negotiate(features);
    return config.isWriteThrough;
  });
  assert.deepEqual(modes, [true, false, false]);
});

test("a driver writes writeback, 0 or 1, and nothing else", () => {
  const config = new BlkConfig(fakeDisk(), BLK_OPTIONS);
  config.negotiate(FLUSH | CONFIG_WCE);
  config.write(blk.BLK_CONFIG_WRITEBACK, Buffer.from([0]), WRITABLE);
  assert.equal(writebackOf(config), 0);
  assert.ok(config.isWriteThrough);
  for (const [offset, bytes] of [
    [blk.BLK_CONFIG_WRITEBACK, [2]],
    [blk.BLK_CONFIG_WRITEBACK, [1, 0]],
    [blk.BLK_CONFIG_WRITEBACK, []],
    [blk.BLK_CONFIG_CAPACITY, [1]],
  ] as const) {
    assert.throws(() => config.write(offset, Buffer.from(bytes), WRITABLE), ProtocolError);
  }
  assert.equal(writebackOf(config), 0);
});

test("a migration restores writeback among the fields that it sends", () => {
  const config = new BlkConfig(fakeDisk(), BLK_OPTIONS);
  const sent = config.read(0, 60);
  sent[blk.BLK_CONFIG_WRITEBACK] = 0;
  config.write(0, sent, MIGRATION);
  assert.equal(writebackOf(config), 0);
});

test("unknown flags are refused", () => {
  const config = new BlkConfig(fakeDisk(), BLK_OPTIONS);
  assert.throws(() => config.write(blk.BLK_CONFIG_WRITEBACK, Buffer.from([1]), 2), ProtocolError);
});

test("no request may have more segments than the kernel takes", () => {
  const config = new BlkConfig(fakeDisk(), { ...BLK_OPTIONS, queueSize: 32768 });
  assert.equal(config.read(blk.BLK_CONFIG_SEG_MAX, 4).readUInt32LE(), 1022);
});
