// A process that may make no more threads, which io_uring needs for whatever must wait.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { PidsLimit, whyNoPidsLimit } from "../support/pids-limit.ts";
import { skipWithout } from "../support/skip.ts";
import { Vringd } from "../support/vringd.ts";

const SECTORS = 64;

describe("a daemon that may make no more threads", {
  skip: skipWithout(whyNoPidsLimit()),
  timeout: 60_000,
}, () => {
  const sets = [
    { name: "io_uring, from the first write on", args: ["--engine=io_uring"], writesBefore: 0 },
    { name: "io_uring, amid its work", args: ["--engine=io_uring"], writesBefore: 200 },
    {
      name: "io_uring, packed, past the page cache",
      args: ["--engine=io_uring", "--direct", "--packed"],
      writesBefore: 0,
    },
    { name: "threads", args: ["--engine=threads"], writesBefore: 0 },
  ];
  for (const { name, args, writesBefore } of sets) {
    test(`serves on with ${name}`, async () => {
      using limit = new PidsLimit();
      await using daemon = await Vringd.start({ args: [...args, "--threads=2"], onDisk: true });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath, { queues: 2 });
      const disks = [frontEnd.disk(0), frontEnd.disk(1)];
      for (let i = 0; i < writesBefore; i++) await disks[i % 2]!.write(0, randomBytes(512));
      limit.freeze(daemon.pid);
      const blocks = Array.from({ length: 64 }, () => randomBytes(SECTORS * 512));
      await Promise.all(blocks.map((block, i) => disks[i % 2]!.write(i * SECTORS, block)));
      await Promise.all(disks.map((disk) => disk.flush()));
      await disks[0]!.discard([{ sector: 64 * SECTORS, sectors: 8 }]);
      await disks[1]!.writeZeroes([{ sector: 65 * SECTORS, sectors: 8 }]);
      for (const [i, block] of blocks.entries()) {
        assert.deepEqual(await disks[i % 2]!.read(i * SECTORS, SECTORS), block);
      }
      const warnings = daemon.linesLike(/can't make threads/);
      assert.ok(warnings.length <= 1, warnings.join("\n"));
      // Rings stop and start again, and the next front-end is served.
      frontEnd.close();
      await using next = await FrontEnd.connect(daemon.socketPath, { queues: 2 });
      assert.deepEqual(await next.disk(1).read(0, SECTORS), blocks[0]);
      next.close();
      assert.equal(await daemon.stop(), 0);
    });
  }

  test("says once that io_uring has no threads", async () => {
    using limit = new PidsLimit();
    await using daemon = await Vringd.start({ args: ["--engine=io_uring", "--threads=2"], onDisk: true });
    await using frontEnd = await FrontEnd.connect(daemon.socketPath, { queues: 2 });
    limit.freeze(daemon.pid);
    for (let i = 0; i < 4; i++) await frontEnd.disk(i % 2).flush();
    await daemon.waitForLog(/warn .*io_uring can't make threads of the kernel/);
    assert.equal(daemon.linesLike(/can't make threads/).length, 1);
    frontEnd.close();
    await daemon.stop();
  });
});
