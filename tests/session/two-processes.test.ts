// A guest moves between two daemons that have one image: one of them has its lock, and the other neither writes nor serves.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  BLK_CONFIG_CAPACITY,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_T_FLUSH,
} from "../../assembly/spec/virtio-blk.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { drainEventfd } from "../../host/linux/eventfd.ts";
import { FaultRig } from "../support/fault-rig.ts";
import { whyNoFuse } from "../support/fuse.ts";
import { LoopDevice, loopUnavailable } from "../support/loop-device.ts";
import { MigrationLog, startLogging } from "../support/moved-memory.ts";
import { bringMemory, comeBeside, startRings, stopRings } from "../support/moving-guest.ts";
import { NbdServer, nbdUnavailable } from "../support/nbd-server.ts";
import { Observed } from "../support/observed.ts";
import { skipWithout } from "../support/skip.ts";
import { tryToStart } from "../support/start-attempt.ts";
import { isLocked, MIGRATING, moveUnderLoad, TwoProcesses } from "../support/two-processes.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const TAKEN = / the disk is taken over /;
const RELEASED = / the disk is let go /;
const WAITS = / waiting for the disk, which another process has /;
const REFUSED = / error .*rings can't start: the device could not be taken over /;
/** Longer than any test takes. */
const PATIENT = "--lock-timeout=3600";
const IMPATIENT = "--lock-timeout=0";

describe("a guest moves between two processes under load", { timeout: 300_000 }, () => {
  for (const [what, args, packed] of [
    ["by io_uring", ["--engine=io_uring"], false],
    ["by threads", ["--engine=threads"], false],
    ["on packed rings", ["--packed"], true],
    ["past the page cache", ["--direct"], false],
  ] as const) {
    test(what, async (t) => {
      const options = { args: ["--num-queues=2", PATIENT, ...args], onDisk: true };
      await using both = await TwoProcesses.start(options, { packed });
      await moveUnderLoad(t, both);
      const { source, destination } = both;
      for (const daemon of [source, destination]) {
        assert.ok(daemon.linesLike(TAKEN).length > 0);
        assert.deepEqual(daemon.linesLike(/ (warn|error) /), []);
      }
      assert.equal(isLocked(source.imagePath), true);
    });
  }

  test("on one block device, which only one claims", { skip: skipWithout(loopUnavailable()) }, async (t) => {
    using device = new LoopDevice();
    await using both = await TwoProcesses.start({ blkFile: device.path, args: [PATIENT] });
    await moveUnderLoad(t, both);
    assert.match(tryToStart([`--blk-file=${device.path}`, IMPATIENT]).stderr, /is in use by vringd-blk/);
    await both.leave(both.destinationEnd);
    assert.equal(tryToStart([`--blk-file=${device.path}`, IMPATIENT]).status, 0);
  });

  test("in one overlay, whose map is read again", async (t) => {
    const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
    const [base, changes] = [join(directory, "base.img"), join(directory, "changes")];
    writeFileSync(base, "");
    truncateSync(base, 64 << 20);
    try {
      await using both = await TwoProcesses.start({
        blkFile: base,
        args: [`--overlay=${changes}`, PATIENT],
      });
      await moveUnderLoad(t, both);
      assert.equal(isLocked(changes), true);
      await both.leave(both.destinationEnd);
      assert.equal(isLocked(changes), false);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("on one NBD export, which has no lock", { skip: skipWithout(nbdUnavailable()) }, async (t) => {
    await using server = await NbdServer.start({
      program: "qemu-nbd",
      args: (directory) => {
        const image = join(directory, "disk.img");
        writeFileSync(image, "");
        truncateSync(image, 64 << 20);
        return ["--format=raw", "--persistent", "--shared=2", "--discard=unmap", image];
      },
    });
    await using both = await TwoProcesses.start({ blkFile: server.uri() });
    await moveUnderLoad(t, both, 500);
  });
});

describe("the destination's process", { timeout: 300_000 }, () => {
  test("writes nothing, and takes no lock, before its first ring starts", async () => {
    const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
    const image = join(directory, "disk.img");
    const state = join(directory, "state");
    writeFileSync(image, "");
    truncateSync(image, 1 << 20);
    const changed = () => statSync(image, { bigint: true }).ctimeNs;
    const hasRecord = () => readdirSync(directory).includes("state");
    const before = changed();
    try {
      await using daemon = await Vringd.start({
        blkFile: image,
        args: ["--incoming"],
        env: { STATE_DIRECTORY: state },
      });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath, {
        ...MIGRATING,
        queues: 0,
        inflight: false,
      });
      assert.equal(frontEnd.capacity, 2048);
      assert.equal(changed(), before);
      assert.equal(hasRecord(), false);
      assert.equal(isLocked(image), false);
      await frontEnd.addQueue();
      assert.equal(isLocked(image), true);
      // That it is served raw.
      assert.ok(changed() > before || hasRecord());
      await daemon.waitForLog(TAKEN);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("waits for the lock, answers meanwhile, and starts its rings when the source lets go", async () => {
    await using both = await TwoProcesses.start({ args: [PATIENT] });
    const { source, destination, sourceEnd, destinationEnd } = both;
    await sourceEnd.disk().read(0, 8);
    await startRings(destinationEnd, sourceEnd.basesAfterCrash());
    await destination.waitForLog(WAITS);
    assert.notEqual(await destinationEnd.getFeatures(), 0n);
    assert.equal((await destinationEnd.readConfig()).readBigUInt64LE(BLK_CONFIG_CAPACITY), 131072n);
    await both.leave();
    await destination.waitForLog(TAKEN);
    assert.equal((await sourceEnd.disk().read(0, 8)).length, 4096);
    assert.equal(source.linesLike(RELEASED).length, 1);
  });

  test("breaks its rings when the source doesn't let go, says who has the lock, and may try again", async () => {
    await using both = await TwoProcesses.start({}, {}, [IMPATIENT]);
    const { source, destination, sourceEnd, destinationEnd } = both;
    drainEventfd(sourceEnd.queues[0]!.errFd);
    await startRings(destinationEnd, sourceEnd.basesAfterCrash());
    const line = await destination.waitForLog(REFUSED);
    assert.match(
      line,
      new RegExp(`is in use by vringd-blk .*\\(process ${source.pid}\\), which has not let`),
    );
    await until(() => drainEventfd(sourceEnd.queues[0]!.errFd), "the error eventfd is signalled");
    assert.equal((await sourceEnd.disk().read(0, 8)).length, 4096);
    await destinationEnd.stopQueue(0);
    await both.move();
    assert.equal((await sourceEnd.disk().read(0, 8)).length, 4096);
    await destination.waitForLog(TAKEN);
  });

  test("gives up its wait when its rings are stopped, or its front-end leaves", async () => {
    await using both = await TwoProcesses.start({ args: [PATIENT] });
    const { destination, sourceEnd, destinationEnd } = both;
    await startRings(destinationEnd, sourceEnd.basesAfterCrash());
    await destination.waitForLog(WAITS);
    await destinationEnd.stopQueue(0);
    await startRings(destinationEnd, sourceEnd.basesAfterCrash());
    destinationEnd.disconnect();
    await destination.waitForLog(/front-end left/);
    const bases = await both.leave();
    // Nobody takes it.
    await sleep(200);
    assert.equal(isLocked(both.source.imagePath), false);
    await startRings(sourceEnd, bases);
    assert.equal((await sourceEnd.disk().read(0, 8)).length, 4096);
    assert.equal(destination.linesLike(TAKEN).length, 0);
  });

  test("sees the size that the image has by then", async () => {
    await using both = await TwoProcesses.start();
    const { source, destinationEnd } = both;
    const bases = await both.leave();
    truncateSync(source.imagePath, 128 << 20);
    await startRings(destinationEnd, bases);
    const capacity = (await destinationEnd.readConfig()).readBigUInt64LE(BLK_CONFIG_CAPACITY);
    assert.equal(capacity, BigInt(128 << 11));
    await both.sourceEnd.disk().read(Number(capacity) - 8, 8);
  });

  test("gives back what it has taken for rings that can't start", async () => {
    await using both = await TwoProcesses.start();
    const { source, destination, destinationEnd } = both;
    const bases = await both.leave();
    await assert.rejects(startRings(destinationEnd, [1 << 20]));
    await until(() => !isLocked(source.imagePath), "the lock is given back");
    await startRings(both.sourceEnd, bases);
    await both.sourceEnd.disk().read(0, 8);
    assert.deepEqual(destination.linesLike(REFUSED), []);
  });

  test("is refused for a disk in memory, and finds no overlay that nobody has made", () => {
    const memory = tryToStart(["--blk-file=memory:1M", "--incoming"]);
    assert.equal(memory.status, 1);
    assert.match(memory.stderr, /memory:1M is this process's alone.*: leave out --incoming/);
    const overlay = tryToStart(["--blk-file=memory:1M", "--overlay=/nowhere/changes", "--incoming"]);
    assert.equal(overlay.status, 1);
    assert.match(overlay.stderr, /can't open the overlay \/nowhere\/changes: no such file/);
  });
});

describe("the source's process", { timeout: 300_000 }, () => {
  test("keeps the lock when its rings stop without a migration", async () => {
    await using daemon = await Vringd.start();
    await using frontEnd = await FrontEnd.connect(daemon.socketPath, MIGRATING);
    const bases = await stopRings(frontEnd);
    assert.equal(isLocked(daemon.imagePath), true);
    await startRings(frontEnd, bases);
    await frontEnd.disk().read(0, 8);
    frontEnd.disconnect();
    await daemon.waitForLog(/front-end left/);
    assert.equal(isLocked(daemon.imagePath), true);
    assert.deepEqual(daemon.linesLike(RELEASED), []);
  });

  test("takes the disk back after a migration that has failed", async () => {
    await using both = await TwoProcesses.start();
    const { source, sourceEnd } = both;
    for (let i = 0; i < 5; i++) {
      const bases = await both.leave();
      assert.equal(isLocked(source.imagePath), false);
      await startRings(sourceEnd, bases);
      assert.equal(isLocked(source.imagePath), true);
      await sourceEnd.disk().write(i, Buffer.alloc(512, i + 1));
    }
    assert.equal(source.imageBytes(4, 1)[0], 5);
  });

  test("breaks its rings when the destination has the disk, and says so", async () => {
    await using both = await TwoProcesses.start({ args: [IMPATIENT] });
    const { source, destination, sourceEnd } = both;
    const bases = await both.leave();
    await startRings(both.destinationEnd, bases);
    await startRings(sourceEnd, bases);
    const line = await source.waitForLog(REFUSED);
    assert.match(line, new RegExp(`\\(process ${destination.pid}\\)`));
    await sourceEnd.disk().read(0, 8);
  });

  test("shows and tells who has the lock, and resizes nothing without it", async () => {
    await using observed = await Observed.start();
    const { daemon } = observed;
    await using frontEnd = await FrontEnd.connect(daemon.socketPath, MIGRATING);
    const lock = async () => (await observed.get("/v1/status")).disk.lock;
    const active = async () =>
      /^vringd_blk_active\S* (\d)$/m.exec((await observed.ask("GET", "/v1/metrics")).text)?.[1];
    const resize = async () => {
      const body = JSON.stringify({ command: "resize", arguments: ["--size=128M"] });
      return observed.ask("POST", "/v1/commands", body);
    };
    assert.equal(await lock(), "held");
    assert.equal(await active(), "1");
    const log = new MigrationLog(2 ** 36);
    await startLogging(frontEnd, log);
    const bases = await stopRings(frontEnd);
    log.close();
    assert.equal(await lock(), "released");
    assert.equal(await active(), "0");
    const refused = await resize();
    assert.equal(refused.status, 400);
    assert.match(refused.text, /is not this process's/);
    assert.equal(statSync(daemon.imagePath).size, 64 << 20);
    await startRings(frontEnd, bases);
    assert.equal(await lock(), "held");
    assert.equal((await resize()).status, 200);
  });

  test("keeps the disk that it could not flush, and fails flushes", {
    skip: skipWithout(whyNoFuse()),
  }, async () => {
    await using rig = await FaultRig.start({ engine: "threads", frontEnd: MIGRATING });
    const { frontEnd, daemon } = rig;
    const log = new MigrationLog(2 ** 36);
    await frontEnd.disk().write(0, Buffer.alloc(512, 1));
    await startLogging(frontEnd, log);
    rig.storage.fault = ({ name }) => (name === "sync" ? { errno: 5 } : undefined);
    const bases = await stopRings(frontEnd);
    rig.storage.fault = () => undefined;
    await daemon.waitForLog(/ error .*the disk could not be flushed, so data may be lost/);
    await startRings(frontEnd, bases);
    const { status } = await frontEnd.disk().request({ type: VIRTIO_BLK_T_FLUSH });
    assert.equal(status, VIRTIO_BLK_S_IOERR);
    // Nor is it let go later.
    await stopRings(frontEnd);
    await daemon.waitForLog(/ error .*a flush of the disk has failed before/);
    log.close();
    assert.deepEqual(daemon.linesLike(RELEASED), []);
  });

  test("lets nothing go while the guest moves within it, until its other front-end has left", async () => {
    await using daemon = await Vringd.start();
    await using source = await FrontEnd.connect(daemon.socketPath, MIGRATING);
    await using destination = await comeBeside(source, daemon.socketPath, MIGRATING);
    await bringMemory(destination, source);
    const log = new MigrationLog(2 ** 36);
    await startLogging(source, log);
    const bases = await stopRings(source);
    assert.equal(isLocked(daemon.imagePath), true);
    await startRings(destination, bases);
    await source.disk().read(0, 8);
    assert.deepEqual(daemon.linesLike(RELEASED), []);
    // It was moved from here to nowhere in this process, as it turns out.
    await startRings(source, await stopRings(destination));
    await stopRings(source);
    assert.equal(isLocked(daemon.imagePath), true);
    destination.disconnect();
    await until(() => !isLocked(daemon.imagePath), "the lock is let go");
    log.close();
  });
});

describe("kill -9", { timeout: 300_000 }, () => {
  test("of a destination that waits leaves the source as it is", async () => {
    await using both = await TwoProcesses.start({ args: [PATIENT] });
    const { source, destination, sourceEnd, destinationEnd } = both;
    await startRings(destinationEnd, sourceEnd.basesAfterCrash());
    await destination.waitForLog(WAITS);
    await destination.kill9();
    await sourceEnd.disk().read(0, 8);
    assert.equal(isLocked(source.imagePath), true);
  });

  test("of a destination before its rings start: the source has the disk back", async () => {
    await using both = await TwoProcesses.start({ args: [PATIENT] });
    const { destination, sourceEnd } = both;
    const bases = await both.leave();
    await destination.kill9();
    await startRings(sourceEnd, bases);
    await sourceEnd.disk().read(0, 8);
  });

  test("of a destination whose rings run: its successor has the disk, the source has not", async () => {
    await using both = await TwoProcesses.start();
    const { source, destination, sourceEnd } = both;
    const disk = sourceEnd.disk();
    await both.move();
    await disk.write(0, Buffer.alloc(4096, 1));
    await destination.kill9();
    await destination.restart();
    const successor = await comeBeside(sourceEnd, destination.socketPath, MIGRATING);
    await bringMemory(successor, sourceEnd);
    await startRings(successor, sourceEnd.basesAfterCrash());
    assert.equal((await disk.read(0, 8))[0], 1);
    assert.equal(isLocked(source.imagePath), true);
    assert.equal(source.linesLike(TAKEN).length, 0);
    // And back.
    await both.move(successor, sourceEnd);
    successor.disconnect();
    assert.equal((await disk.read(0, 8))[0], 1);
  });

  test("of a source that has let go: the destination goes on, and a successor of the source is refused", async () => {
    await using both = await TwoProcesses.start({ args: ["--lock-timeout=1"] });
    const { source, destination, sourceEnd, destinationEnd } = both;
    const disk = sourceEnd.disk();
    await disk.write(0, Buffer.alloc(4096, 1));
    const bases = await both.leave();
    await source.kill9();
    await startRings(destinationEnd, bases);
    assert.equal((await disk.read(0, 8))[0], 1);
    const { status, stderr } = tryToStart([`--blk-file=${source.imagePath}`]);
    assert.equal(status, 1);
    assert.match(stderr, new RegExp(`process ${destination.pid}`));
  });

  test("of a source whose rings run lets a destination that waits have the disk", async () => {
    await using both = await TwoProcesses.start({ args: [PATIENT] });
    const { source, destination, sourceEnd, destinationEnd } = both;
    await startRings(destinationEnd, sourceEnd.basesAfterCrash());
    await destination.waitForLog(WAITS);
    await source.kill9();
    await destination.waitForLog(TAKEN);
    await sourceEnd.disk().read(0, 8);
  });
});
