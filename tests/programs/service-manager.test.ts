// What systemd hears of the daemon (sd_notify(3)).
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { Manager } from "../support/service-manager.ts";
import { Vringd } from "../support/vringd.ts";

describe("a daemon that a service manager has started", { timeout: 180_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  process.on("exit", () => rmSync(directory, { recursive: true }));

  for (const name of [join(directory, "notify"), `@vringd-test-${process.pid}`]) {
    const kind = name.startsWith("@") ? "an abstract socket" : "a path";
    test(`tells it by ${kind} when it is ready, what it does, and that it stops`, async () => {
      const manager = new Manager(name);
      try {
        await using daemon = await Vringd.start({ under: ["env", `NOTIFY_SOCKET=${name}`] });
        await manager.hears(/^READY=1$/m);
        await manager.hears(/^STATUS=waiting for a front-end$/m);
        const frontEnd = await FrontEnd.connect(daemon.socketPath);
        await manager.hears(/^STATUS=serving a front-end$/m);
        frontEnd.close();
        assert.equal(await daemon.stop(), 0);
        await manager.hears(/^STOPPING=1$/m);
        assert.equal(manager.all().filter((text) => /^READY=1$/m.test(text)).length, 1);
      } finally {
        manager.close();
      }
    });
  }

  test("serves on when the manager goes away, or never was", async () => {
    const path = join(directory, "gone");
    const manager = new Manager(path);
    await using daemon = await Vringd.start({ under: ["env", `NOTIFY_SOCKET=${path}`] });
    await manager.hears(/^READY=1$/m);
    manager.close();
    unlinkSync(path);
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    await frontEnd.disk().read(0, 8);
    await using other = await Vringd.start({ under: ["env", `NOTIFY_SOCKET=${path}`] });
    assert.equal(await other.stop(), 0);
    assert.deepEqual(daemon.linesLike(/error|warn/), []);
  });

  test("says nothing of it that isn't ready: an image that can't be opened", async () => {
    const path = join(directory, "failing");
    const manager = new Manager(path);
    try {
      const under = ["env", `NOTIFY_SOCKET=${path}`];
      await assert.rejects(Vringd.start({ under, args: ["--blk-file=/nonexistent"] }), /ended with 1/);
      assert.deepEqual(manager.all(), []);
    } finally {
      manager.close();
    }
  });
});
