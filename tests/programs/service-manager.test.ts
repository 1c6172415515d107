// What systemd hears of the daemon (sd_notify(3)).
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { bind, checked, close, socket } from "../../host/linux/libc.ts";
import { receive } from "../../host/linux/unix-socket.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const AF_UNIX = 1;
/** SOCK_DGRAM, SOCK_NONBLOCK, SOCK_CLOEXEC. */
const TYPE = 2 | 0o4000 | 0o2000000;

/** The manager's end: a datagram socket, by path or, with "@", by an abstract name. */
class Manager {
  private readonly fd = checked("socket", socket(AF_UNIX, TYPE, 0));
  private readonly heard: string[] = [];

  constructor(name: string) {
    const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(name.replace(/^@/, "\0"))]);
    checked("bind", bind(this.fd, address, address.length));
  }

  async hears(pattern: RegExp): Promise<string> {
    return until(() => this.all().find((text) => pattern.test(text)), `the manager hears ${pattern}`);
  }

  all(): string[] {
    const buffer = Buffer.alloc(4096);
    for (;;) {
      const received = receive(this.fd, buffer);
      if (received === undefined) return this.heard;
      this.heard.push(buffer.toString("utf8", 0, received.byteLength));
    }
  }

  close(): void {
    close(this.fd);
  }
}

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
