// --connect: the front-end listens, and the daemon comes to it, again and again; --once: and then no more.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { MemoryDisk, serve } from "vringd";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { close } from "../../host/linux/libc.ts";
import { connectUnix } from "../../host/linux/unix-socket.ts";
import { qemuUnavailable, startQemuGuest, verifiedLoad } from "../support/guest.ts";
import { ListeningFrontEnd } from "../support/listening-front-end.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
after(() => rmSync(directory, { recursive: true }));

let count = 0;
const newPath = () => join(directory, `front-end-${count++}.sock`);

const KNOWN = Buffer.alloc(4096, "a known block");

describe("a daemon that connects", { timeout: 300_000 }, () => {
  for (const [what, pathOf] of [
    ["path", newPath],
    ["abstract name", () => `@vringd-test-${process.pid}-${count++}`],
  ] as const) {
    test(`serves a front-end that listens at a${what === "path" ? "" : "n"} ${what}, and the next one there`, async () => {
      const path = pathOf();
      using listening = new ListeningFrontEnd(path);
      await using daemon = await Vringd.start({ args: [`--connect=${path}`] });
      {
        await using first = await listening.next();
        await first.disk().write(8, KNOWN);
      }
      await using second = await listening.next();
      assert.deepEqual(await second.disk().read(8, 8), KNOWN);
      assert.equal(await daemon.stop(), 0);
    });
  }

  test("waits for a front-end that isn't there yet, and says so once", async () => {
    const path = newPath();
    await using daemon = await Vringd.start({ args: [`--connect=${path}`] });
    await daemon.waitForLog(/waiting for a front-end .*no such file or directory/);
    using listening = new ListeningFrontEnd(path);
    await using frontEnd = await listening.next();
    await frontEnd.disk().read(0, 8);
    assert.equal(daemon.linesLike(/no such file or directory/).length, 1);
  });

  test("comes back to a successor at the same path, whatever became of the first", async () => {
    const path = newPath();
    const first = new ListeningFrontEnd(path);
    await using daemon = await Vringd.start({ args: [`--connect=${path}`] });
    const frontEnd = await first.next();
    await frontEnd.disk().write(0, KNOWN);
    // As when it is killed: its socket's file stays behind.
    first[Symbol.dispose]();
    frontEnd.close();
    await daemon.waitForLog(/waiting for a front-end .*connection refused/);
    rmSync(path);
    using second = new ListeningFrontEnd(path);
    await using next = await second.next();
    assert.deepEqual(await next.disk().read(0, 8), KNOWN);
  });

  test("is ended by a signal while it waits", async () => {
    await using daemon = await Vringd.start({ args: [`--connect=${newPath()}`] });
    await daemon.waitForLog(/waiting for a front-end/);
    assert.equal(await daemon.stop(), 0);
  });

  test("comes ever more seldom to one who hangs up at once", async () => {
    const path = newPath();
    using listening = new ListeningFrontEnd(path);
    await using daemon = await Vringd.start({ args: [`--connect=${path}`] });
    const startMs = performance.now();
    const times: number[] = [];
    while (times.length < 5) {
      close(await listening.nextSocket());
      times.push(performance.now() - startMs);
    }
    // 50, 100, 200 and 400 ms at the least; a busy machine makes it longer.
    assert.ok(times[4]! > 700, times.join());
    assert.ok(!daemon.hasEnded);
  });

  test("serves with the library, and with once the server closes", async () => {
    const path = newPath();
    using listening = new ListeningFrontEnd(path);
    const server = await serve({ disk: new MemoryDisk(1n << 20n), connect: path, once: true });
    {
      await using frontEnd = await listening.next();
      await frontEnd.disk().write(0, KNOWN);
    }
    await server.closed;
    assert.ok(!(await listening.hasCome(300)));
  });
});

describe("--once", { timeout: 120_000 }, () => {
  test("ends with status 0 when the front-end has left, not when one only looks who listens", async () => {
    await using daemon = await Vringd.start({ args: ["--once"] });
    for (let i = 0; i < 3; i++) {
      close(connectUnix(daemon.socketPath));
      await until(() => daemon.linesLike(/front-end left/).length > i, "it has been served");
    }
    const frontEnd = await FrontEnd.connect(daemon.socketPath);
    await frontEnd.disk().read(0, 8);
    assert.ok(!daemon.hasEnded);
    frontEnd.close();
    assert.equal(await daemon.end(), 0);
  });

  test("ends a daemon that connects, too", async () => {
    const path = newPath();
    using listening = new ListeningFrontEnd(path);
    await using daemon = await Vringd.start({ args: [`--connect=${path}`, "--once"] });
    const frontEnd = await listening.next();
    await frontEnd.disk().read(0, 8);
    frontEnd.close();
    assert.equal(await daemon.end(), 0);
  });

  test("ends with status 0 after a front-end that broke the protocol", async () => {
    await using daemon = await Vringd.start({ args: ["--once"] });
    const frontEnd = await FrontEnd.open(daemon.socketPath);
    await frontEnd.getFeatures();
    await frontEnd.connection.send(Buffer.alloc(64, 0xff));
    assert.equal(await daemon.end(), 0);
  });
});

const skip = skipWithout(qemuUnavailable(), whyNoProgram("fio"));

describe("QEMU with server=on,wait=off", { skip }, () => {
  test("is served, killed and served anew, and a killed daemon's successor goes on", async () => {
    const socketPath = newPath();
    await using daemon = await Vringd.start({
      byteLength: 128 << 20,
      args: [`--connect=${socketPath}`],
    });
    const start = () =>
      startQemuGuest({ socketPath, isServer: true, script: verifiedLoad, programs: ["fio"], queues: 2 });
    {
      await using first = await start();
      assert.equal(await first.waitForReport("BOOT"), "first");
      await daemon.kill9();
      await daemon.restart();
      await daemon.waitForLog(/front-end connected/);
      await first.waitForReport("ROUND");
    }
    // The end of the block has killed QEMU.
    await daemon.waitForLog(/front-end left/);
    rmSync(socketPath, { force: true });
    await using second = await start();
    assert.equal(await second.waitForReport("BOOT"), "second");
    second.send("end");
    const result = await second.exit();
    assert.ok(result.ok, result.console);
    assert.equal(await daemon.stop(), 0);
  });
});
