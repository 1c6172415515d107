// Which engine serves, and what becomes of the daemon when the kernel refuses it.
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { whyNoDirect } from "../support/machine.ts";
import { randomReads } from "../support/random-reads.ts";
import { skipWithout } from "../support/skip.ts";
import { straceTo, traceLines, whyNoStrace } from "../support/strace.ts";
import { Vringd } from "../support/vringd.ts";

/** Has the kernel answer one kind of system call with an error. */
function refusing(call: string, error: string, when = ""): string[] {
  return straceTo("/dev/null", "-e", `trace=${call}`, "-e", `inject=${call}:error=${error}${when}`);
}

for (const engine of ["io_uring", "threads"]) {
  test(`--engine=${engine} is what serves, and the log says so`, async () => {
    await using daemon = await Vringd.start({ args: [`--engine=${engine}`] });
    await daemon.waitForLog(new RegExp(`engine=${engine} `));
  });
}

test("an image in memory needs no threads of the kernel's", {
  skip: skipWithout(whyNoDirect("/dev/shm")),
}, async () => {
  await using daemon = await Vringd.start();
  await using frontEnd = await FrontEnd.connect(daemon.socketPath);
  const block = Buffer.alloc(4096, "vringd");
  for (let sector = 0; sector < 800; sector += 8) await frontEnd.disk().write(sector, block);
  assert.deepEqual(await frontEnd.disk().read(8, 8), block);
  const names = daemon.procEntries("task").map((task) => daemon.proc(`task/${task}/comm`));
  assert.deepEqual(
    names.filter((name) => name.startsWith("iou-wrk")),
    [],
  );
});

describe("the threads engine", { skip: skipWithout(whyNoStrace(), whyNoDirect("/var/tmp")) }, () => {
  for (const { direct, what, isDoneAtOnce } of [
    { direct: false, what: "reads what the page cache has at once", isDoneAtOnce: true },
    {
      direct: true,
      what: "leaves reads past it to the pool, since they wait for the device",
      isDoneAtOnce: false,
    },
  ]) {
    test(what, async () => {
      const trace = `/tmp/vringd-trace-${process.pid}-${direct}`;
      const args = ["--engine=threads", ...(direct ? ["--direct"] : [])];
      const under = straceTo(trace, "-y", "-e", "trace=preadv2");
      await using daemon = await Vringd.start({ onDisk: true, args, under });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      await frontEnd.disk().write(0, Buffer.alloc(4096, "vringd"));
      assert.deepEqual(await frontEnd.disk().read(0, 8), Buffer.alloc(4096, "vringd"));
      frontEnd.close();
      await daemon.stop();
      const tried = traceLines(trace).some((line) => line.includes(daemon.imagePath));
      rmSync(trace);
      assert.equal(tried, isDoneAtOnce);
    });
  }
});

describe("a kernel that refuses", { skip: skipWithout(whyNoStrace()) }, () => {
  test("io_uring gets its work done by threads, and the log says why", async () => {
    await using daemon = await Vringd.start({ under: refusing("io_uring_setup", "EPERM") });
    await daemon.waitForLog(/warn {2}io_uring can't be used, .* {2}reason="io_uring_setup: EPERM"/);
    assert.ok(daemon.log.some((line) => /engine=threads /.test(line)));
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    await frontEnd.disk().write(1, Buffer.alloc(512, "vringd"));
    assert.deepEqual(await frontEnd.disk().read(1, 1), Buffer.alloc(512, "vringd"));
  });

  test("io_uring is a reason not to start when io_uring was asked for", async () => {
    const start = Vringd.start({ args: ["--engine=io_uring"], under: refusing("io_uring_setup", "EPERM") });
    await assert.rejects(
      start,
      /ended with 1: .*can't start with --engine=io_uring: operation not permitted/,
    );
  });

  for (const error of ["EINTR", "EAGAIN", "EBUSY", "ETIME"]) {
    test(`a worker for now (${error}) is asked again, and no request is lost`, async () => {
      const under = refusing("io_uring_enter", error, ":when=20+3");
      await using daemon = await Vringd.start({ args: ["--engine=io_uring", "--poll-us=0"], under });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      const { failures } = await randomReads(frontEnd.disk(), 500, 8, 4096);
      assert.equal(failures, 0);
      await frontEnd.disk().write(1, Buffer.alloc(512, "vringd"));
      await frontEnd.disk().flush();
      assert.deepEqual(await frontEnd.disk().read(1, 1), Buffer.alloc(512, "vringd"));
    });
  }

  test("a running worker ends the whole daemon, rather than leave queues unserved", async () => {
    // strace counts for each thread, and only a worker calls it so often: libuv uses io_uring a little too.
    await using daemon = await Vringd.start({ under: refusing("io_uring_enter", "EBADF", ":when=500+") });
    const frontEnd = await FrontEnd.connect(daemon.socketPath);
    const reads = randomReads(frontEnd.disk(), 1000, 1, 4096).catch(() => undefined);
    assert.equal(await daemon.end(), 70);
    await daemon.waitForLog(/io_uring_enter: EBADF/);
    frontEnd.close();
    assert.equal(await reads, undefined);
  });
});
