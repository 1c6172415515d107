// `vringd ctl NAME backup`: a copy of the disk as it was at one moment, while its guest goes on writing.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { MemoryDisk } from "vringd";
import { DiskBackup } from "../../host/devices/block/backup.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { SILENT } from "../../host/process/log.ts";
import type { BackupStatus } from "../../host/storage/backup/status.ts";
import { ObjectStorage } from "../../host/storage/object.ts";
import { CountedWrites } from "../support/counted-writes.ts";
import { Observed } from "../support/observed.ts";
import { skipWithout } from "../support/skip.ts";
import { failing, whyNoStrace } from "../support/strace.ts";
import { startToolbox, toolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";
import type { VringdOptions } from "../support/vringd.ts";
import { Xfs, xfsUnavailable } from "../support/xfs.ts";

const BYTES = 8 << 20;
const SECTORS = BYTES / 512;
/** Mostly holes; what takes longer to copy than a few commands. */
const LONG_BYTES = 2 ** 38;

async function tell({ controlSocket }: Observed, ...args: string[]): Promise<BackupStatus> {
  const { stdout, stderr } = await toolbox(["ctl", controlSocket, "backup", ...args, "--json"]);
  assert.equal(stderr, "");
  return JSON.parse(stdout);
}

/** While a guest writes, `work` is done, which makes `file`. What it has is what the disk had at a moment of that. */
async function whileWriting(
  options: VringdOptions,
  file: (observed: Observed) => string,
  work: (observed: Observed, file: string, writes: CountedWrites) => Promise<void>,
): Promise<void> {
  await using observed = await Observed.start(options);
  await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath);
  const writes = new CountedWrites(frontEnd.disk(), SECTORS);
  await until(() => writes.count > 1000, "the guest has written");
  const path = file(observed);
  const before = writes.count;
  await work(observed, path, writes);
  const after = writes.count;
  await writes.end();
  const count = writes.countIn(readFileSync(path));
  assert.ok(count >= before && count < after, `${count} writes, not ${before} to ${after}`);
  // The disk itself has all.
  const disk = await frontEnd.disk().read(0, SECTORS);
  assert.equal(writes.countIn(disk), writes.count);
}

const beside = ({ daemon }: Observed) => join(daemon.directory, "backup.img");

describe("a backup of a running disk", () => {
  test("in an overlay is the disk at one moment, though the guest overtakes it", (t) =>
    whileWriting({ overlay: true, byteLength: BYTES }, beside, async (observed, file, writes) => {
      const { state, pauseMs, totalBytes } = await tell(observed, file);
      assert.deepEqual([state, totalBytes], ["done", BYTES]);
      t.diagnostic(`the guest waited ${pauseMs} ms`);
      await writes.goOn();
    }));

  test("in a file that can be cloned is the disk at one moment", {
    skip: skipWithout(xfsUnavailable()),
  }, async () => {
    using xfs = new Xfs();
    const blkFile = xfs.at("disk.img");
    writeFileSync(blkFile, "");
    truncateSync(blkFile, BYTES);
    await whileWriting(
      { blkFile },
      () => xfs.at("backup.img"),
      async (observed, file) => {
        assert.equal((await tell(observed, file)).state, "done");
      },
    );
    assert.deepEqual(readdirSync(xfs.directory).sort(), ["backup.img", "disk.img"]);
  });

  test("is refused where a file has that name, and where files can't be cloned", async () => {
    await using observed = await Observed.start({ byteLength: BYTES });
    const before = readdirSync(observed.daemon.directory);
    const existing = await toolbox(["ctl", observed.controlSocket, "backup", observed.daemon.imagePath]);
    assert.match(existing.stderr, /disk\.img is there already; name another file/);
    const { status, stderr } = await toolbox(["ctl", observed.controlSocket, "backup", beside(observed)]);
    assert.equal(status, 1);
    assert.match(stderr, /disk\.img can't be copied while it is served: its file system has no clones/);
    assert.deepEqual(readdirSync(observed.daemon.directory), before);
  });

  test("that fails is no failure of the guest's, and leaves nothing", {
    skip: skipWithout(whyNoStrace()),
  }, async () => {
    await using observed = await Observed.start({ blkFile: "memory:8M" });
    await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath);
    await frontEnd.disk().write(0, Buffer.alloc(512, 1));
    const { daemon, controlSocket } = observed;
    const { status, stderr } = await failing(daemon.pid, "pwrite64,pwritev", "ENOSPC", () =>
      toolbox(["ctl", controlSocket, "backup", beside(observed)]),
    );
    assert.equal(status, 1);
    assert.match(stderr, /backup\.img was not made: no space left on device/);
    await frontEnd.disk().write(8, Buffer.alloc(512, 2));
    assert.deepEqual(await frontEnd.disk().read(8, 1), Buffer.alloc(512, 2));
    assert.equal(readdirSync(daemon.directory).filter((name) => name.startsWith("backup")).length, 0);
  });

  test("keeps an upgrade away while it runs, and ends with Ctrl-C, with nothing left", async () => {
    await using observed = await Observed.start({ overlay: true, byteLength: LONG_BYTES });
    const { daemon, controlSocket } = observed;
    const names = () => readdirSync(daemon.directory).filter((name) => name.startsWith("backup"));
    const run = startToolbox(["ctl", controlSocket, "backup", beside(observed)]);
    await until(() => names().length > 0, "the copy is begun");
    const upgrade = await toolbox(["ctl", controlSocket, "upgrade"]);
    assert.match(upgrade.stderr, /a backup of .*changes is being made, which only this process can end/);
    const second = await toolbox(["ctl", controlSocket, "backup", `${beside(observed)}-2`]);
    assert.match(second.stderr, /a backup is being made already, in .*backup\.img/);
    run.child.kill("SIGINT");
    const { status, stderr } = await run.done;
    assert.match(stderr, /the backup was cancelled: .*backup\.img was not made/);
    assert.equal(status, 130);
    assert.deepEqual(names(), []);
  });

  test("whose moment is yet to come keeps nobody from handing the disk over", async () => {
    let handOver = () => {};
    let change: (() => Promise<void>) | undefined;
    const stopped = new Promise<void>((resolve) => {
      handOver = resolve;
    });
    const handedOver = stopped.then(() => change!());
    const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
    const storage = new ObjectStorage(new MemoryDisk(BYTES), { name: "memory" });
    const backup = new DiskBackup(storage, { byteLength: BigInt(BYTES) }, undefined);
    backup.attach({
      log: SILENT,
      whileStopped: (given) => {
        change = given;
        return handedOver;
      },
    });
    try {
      const started = backup.start(join(directory, "backup.img"));
      await until(() => change !== undefined, "the rings are to stop");
      await backup.leave();
      handOver();
      await assert.rejects(started, RangeError);
      assert.equal(backup.status!.state, "cancelled");
      assert.deepEqual(readdirSync(directory), []);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
