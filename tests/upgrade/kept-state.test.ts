// What a service manager has kept, and whether the next process can go on by it: a state at every instant of its writing, of another version,
// without a descriptor, or of what could not be gone on with.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  VIRTIO_GPIO_IRQ_STATUS_INVALID,
  VIRTIO_GPIO_IRQ_TYPE_EDGE_RISING,
  VIRTIO_GPIO_IRQ_TYPE_NONE,
} from "../../assembly/spec/virtio-gpio.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { addressOf, close, pwrite } from "../../host/linux/libc.ts";
import { STATE_VERSION } from "../../host/upgrade/messages.ts";
import { StateRecord } from "../../host/upgrade/store/record.ts";
import { DescriptorKeeper } from "../support/descriptor-keeper.ts";
import { GpioDriver, startGpio } from "../support/gpio.ts";
import { bringMemory, comeBeside, MOVING } from "../support/moving-guest.ts";
import { until } from "../support/until.ts";
import { isAlive, UpgradedDaemon } from "../support/upgraded.ts";
import { Vringd } from "../support/vringd.ts";

/** Of the record, as record.ts has it. */
const SLOTS = 8;
const SLOT_SIZE = 12 + (16 << 20);

function poke(fd: number, position: number, ...bytes: number[]): void {
  const from = Buffer.from(bytes);
  assert.equal(pwrite(fd, addressOf(from), from.length, position), from.length);
}

test("of two states the later one counts, unless it is not whole", () => {
  const record = StateRecord.create();
  record.write("first");
  record.write("second");
  assert.throws(() => record.read(), /died amid one of its requests/);
  record.markReading(false);
  assert.equal(record.read(), "second");
  // The second is in the first slot. Each of its bytes may be what was not written any more.
  for (let at = 0; at < 12 + "second".length; at++) {
    poke(record.fd, SLOTS + at, 0xee);
    assert.equal(record.read(), "first", `byte ${at}`);
    record.write("second");
    assert.equal(record.read(), "second");
  }
  poke(record.fd, SLOTS + SLOT_SIZE, 0xee);
  assert.equal(record.read(), "second");
  poke(record.fd, SLOTS, 0xee);
  assert.throws(() => record.read(), /its state is not whole/);
  close(record.fd);
});

test("a state of another version is not read", () => {
  const record = StateRecord.create();
  record.write("state");
  record.markReading(false);
  poke(record.fd, 0, STATE_VERSION + 1);
  assert.throws(() => record.read(), /is of version \d+, and this release knows/);
  close(record.fd);
});

const STATE = /^vringd\.0\.\d+\.state$/;
const FILE = /^vringd\.\d+$/;

type Spoil = (keeper: DescriptorKeeper, like: (pattern: RegExp) => string) => void;

const SPOILT: readonly (readonly [spoil: Spoil, reason: RegExp])[] = [
  [
    ({ kept }, like) => poke(kept.get(like(STATE))!, 0, STATE_VERSION + 1),
    /reason="its state is of version \d+, and this release knows/,
  ],
  [
    ({ kept }, like) => poke(kept.get(like(STATE))!, SLOTS - 4, 1),
    /reason="the process that had it has died amid/,
  ],
  [(keeper, like) => keeper.lose(like(FILE)), /reason="its descriptor vringd\.\d+ was not kept/],
  // Whose the others are nobody knows.
  [(keeper, like) => keeper.lose(like(STATE)), / ready /],
];

describe("a service manager that keeps descriptors", { timeout: 300_000 }, () => {
  test("has none left of a front-end whom nobody can go on with, and whose connection is closed", async () => {
    const keeper = new DescriptorKeeper();
    try {
      await using daemon = await Vringd.start({ handedDown: () => keeper.handedDown() });
      await using frontEnd = await FrontEnd.connect(keeper.path, { inflight: true });
      for (const [spoil, reason] of SPOILT) {
        await keeper.isSettled();
        await daemon.kill9();
        spoil(keeper, (pattern) => keeper.names.find((name) => pattern.test(name))!);
        await daemon.restart();
        await daemon.waitForLog(reason);
        await until(() => keeper.names.length === 0, "all is dropped");
        assert.equal(await frontEnd.receive(), undefined);
        await frontEnd.reconnect(keeper.path);
        await frontEnd.disk().read(0, 8);
      }
    } finally {
      keeper.close();
    }
  });

  test("is given nothing that could not be gone on with, or has no room, and all again when it can", async () => {
    const keeper = new DescriptorKeeper(8);
    try {
      await using daemon = await Vringd.start({ handedDown: () => keeper.handedDown() });
      const frontEnd = await FrontEnd.connect(keeper.path);
      await until(() => keeper.names.length === 0, "a ring that nobody records is not kept");
      await frontEnd.stopQueue(0);
      await keeper.isSettled();
      frontEnd.close();
      await using tracked = await FrontEnd.connect(keeper.path, { inflight: true, queues: 2 });
      await daemon.waitForLog(/ warn +the service manager keeps no more descriptors .*most=8/);
      await until(() => keeper.names.length === 0, "two rings are too many");
      await tracked.stopQueue(1);
      await keeper.isSettled();
    } finally {
      keeper.close();
    }
  });

  test("keeps for a successor what it has kept for the daemon that was upgraded", async () => {
    const keeper = new DescriptorKeeper();
    try {
      await using upgraded = await UpgradedDaemon.start({ handedDown: () => keeper.handedDown() });
      await using frontEnd = await FrontEnd.connect(keeper.path, { inflight: true });
      await keeper.isSettled();
      await upgraded.upgrade();
      const { pid } = upgraded.daemon;
      await until(() => !isAlive(pid), "the predecessor ends");
      await keeper.isSettled();
      process.kill(upgraded.pid, "SIGKILL");
      await until(() => !upgraded.isAlive, "the successor ends");
      await upgraded.daemon.end();
      await upgraded.daemon.restart();
      upgraded.adopt(upgraded.daemon.pid);
      await frontEnd.disk().read(0, 8);
      assert.equal(await frontEnd.getFeatures(), frontEnd.backendFeatures);
    } finally {
      keeper.close();
    }
  });

  test("keeps one file of two front-ends until both have left", async () => {
    const keeper = new DescriptorKeeper();
    try {
      await using daemon = await Vringd.start({
        args: ["--num-queues=4"],
        handedDown: () => keeper.handedDown(),
      });
      const source = await FrontEnd.connect(keeper.path, MOVING);
      await using destination = await comeBeside(source, keeper.path);
      await bringMemory(destination, source);
      await keeper.isSettled();
      source.close();
      await until(() => keeper.names.filter((name) => STATE.test(name)).length === 1, "the source has left");
      await daemon.kill9();
      await daemon.restart();
      assert.equal(await destination.getFeatures(), destination.backendFeatures);
    } finally {
      keeper.close();
    }
  });

  test("has armed interrupts of lines go on", async () => {
    const keeper = new DescriptorKeeper();
    try {
      await using daemon = await startGpio(["button"], { handedDown: () => keeper.handedDown() });
      const driver = await GpioDriver.connect(keeper.path, { inflight: true });
      await driver.enable(0, VIRTIO_GPIO_IRQ_TYPE_EDGE_RISING);
      const armed = driver.arm(0);
      await driver.settle();
      await keeper.isSettled();
      await daemon.kill9();
      await daemon.restart();
      await driver.setIrqType(0, VIRTIO_GPIO_IRQ_TYPE_NONE);
      assert.equal(await driver.heard(armed), VIRTIO_GPIO_IRQ_STATUS_INVALID);
      driver.close();
    } finally {
      keeper.close();
    }
  });
});
