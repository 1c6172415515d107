// vringd-rng under QEMU's own front-end and Linux' own driver: what the guest gets, how fast, and what goes on while it waits.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import {
  QEMUS,
  type QemuGuestOptions,
  qemuUnavailable,
  randomInBackground,
  randomRate,
  randomTest,
  randomToDisk,
  runQemuGuest,
  startQemuGuest,
} from "../support/guest.ts";
import { startRng } from "../support/rng.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { Vringd } from "../support/vringd.ts";

const KIBIBYTES = 256;
/** On a machine that has much else to do. */
const GUEST_MS_MAX = 600_000;
const SUITE_MS_MAX = 1_200_000;
const DISK_BYTES = 16 << 20;
/** rngtest looks at blocks of 2500 bytes, after the first 4 bytes. */
const BLOCKS = Math.floor((KIBIBYTES * 1024 - 4) / 2500);
/** One block of true random numbers in some 1,250 fails a test of FIPS 140-2: four of a hundred are a fault of ours. */
const FAILURES_MAX = 3;

/** The kernel's own thread takes whole buffers for its pool beside whoever reads /dev/hwrng: some at the start, then one now and then. */
const KERNEL_BUFFER = 64;
const KERNEL_BUFFERS_MAX = 16;

/** A machine that is late by less than a period loses nothing, and each 64 bytes are a turn of guest and daemon: 16 in a second. */
const PERIOD_MS = 1000;
const PERIOD_BYTES = 1024;
const PERIODS = 25;

function frontEndOf({ socketPath }: Vringd, id = "rng"): string[] {
  return [`-chardev`, `socket,id=${id},path=${socketPath}`, "-device", `vhost-user-rng-pci,chardev=${id}`];
}

/** With the daemon's random numbers, and a disk in the daemon's directory unless told otherwise. */
function guestOf(daemon: Vringd, options: Omit<QemuGuestOptions, "extraArgs">): QemuGuestOptions {
  const imagePath = join(daemon.directory, "guest.img");
  writeFileSync(imagePath, "");
  truncateSync(imagePath, DISK_BYTES);
  const front = { modules: ["virtio_rng"], extraArgs: frontEndOf(daemon), timeoutMs: GUEST_MS_MAX };
  return { imagePath, ...front, ...options };
}

/** What the rings are like, as a debug log tells. */
function tellRings(t: TestContext, daemon: Vringd): void {
  t.diagnostic(daemon.linesLike(/ ring started /)[0]!.replace(/^.*ring started +/, ""));
}

/** Lengths of what was left out of `source` on the way to `read`, which else must be the same bytes in the same order. */
function gapsIn(source: Buffer, read: Buffer): number[] {
  const PROBE = 16;
  const gaps: number[] = [];
  let at = 0;
  for (let i = 0; i < read.length; i++, at++) {
    if (source[at] === read[i]) continue;
    const next = source.indexOf(read.subarray(i, i + PROBE), at);
    assert.notEqual(next, -1, `byte ${i} of what was read is not from the source`);
    gaps.push(next - at);
    at = next;
  }
  return gaps;
}

function assertKernelsShare(t: TestContext, gaps: readonly number[]): void {
  const taken = gaps.reduce((a, b) => a + b, 0);
  t.diagnostic(`the kernel's own thread took ${taken} bytes in ${gaps.length} places`);
  assert.ok(gaps.every((gap) => gap % KERNEL_BUFFER === 0) && taken <= KERNEL_BUFFERS_MAX * KERNEL_BUFFER);
}

for (const qemu of QEMUS) {
  describe(`a guest of QEMU of ${qemu.owner}`, {
    skip: skipWithout(qemuUnavailable(qemu), whyNoProgram("rngtest", "mkfifo")),
    concurrency: 2,
    timeout: SUITE_MS_MAX,
  }, () => {
    test("gets random numbers that pass rngtest", async (t) => {
      await using daemon = await startRng(undefined, { args: ["--log-level=debug"] });
      const guest = guestOf(daemon, { qemu, script: randomTest(KIBIBYTES), programs: ["rngtest"] });
      const { ok, values, console } = await runQemuGuest(guest);
      assert.ok(ok, console);
      tellRings(t, daemon);
      assert.equal(values.get("CURRENT"), "virtio_rng.0");
      assert.equal(values.get("BYTES"), String(KIBIBYTES * 1024));
      const [passed, failed] = ["successes", "failures"].map((what) => Number(values.get(what)));
      t.diagnostic(`rngtest: ${passed} of ${BLOCKS} blocks pass`);
      assert.equal(passed! + failed!, BLOCKS);
      assert.ok(failed! <= FAILURES_MAX);
      assert.deepEqual(daemon.linesLike(/warn|error/), []);
    });

    test("reads a file exactly", async (t) => {
      const contents = randomBytes((KIBIBYTES + 64) * 1024);
      const makeSource = (directory: string) => {
        writeFileSync(join(directory, "source"), contents);
        return join(directory, "source");
      };
      await using daemon = await startRng(makeSource);
      const options = guestOf(daemon, { qemu, script: randomToDisk(KIBIBYTES) });
      const { ok, console } = await runQemuGuest(options);
      assert.ok(ok, console);
      const read = readFileSync(options.imagePath!).subarray(0, KIBIBYTES * 1024);
      assertKernelsShare(t, gapsIn(contents, read));
    });

    test(`gets ${PERIOD_BYTES} bytes a second, if it is to have no more`, async (t) => {
      const args = [`--max-bytes=${PERIOD_BYTES}`, `--period=${PERIOD_MS}`];
      await using daemon = await startRng(undefined, { args });
      // With what the kernel takes first, from the middle of one period's bytes to that of another's: what it takes later moves
      // neither into the next period.
      const before = PERIOD_BYTES * 2.25;
      const bytes = PERIOD_BYTES * PERIODS;
      const guest = guestOf(daemon, { qemu, script: randomRate({ before, bytes }) });
      const { ok, values, console } = await runQemuGuest(guest);
      assert.ok(ok, console);
      const rate = bytes / (Number(values.get("CENTISECONDS")) / 100);
      const wanted = (PERIOD_BYTES * 1000) / PERIOD_MS;
      t.diagnostic(`${rate.toFixed(1)} bytes a second by the guest's clock: ${percent(rate / wanted - 1)}`);
      assert.ok(Math.abs(rate / wanted - 1) < 0.05, String(rate));
    });

    test("waits for a source without holding up its disk, its pauses or its reset", async (t) => {
      const pipes = mkdtempSync(join(tmpdir(), "vringd-test-"));
      t.after(() => rmSync(pipes, { recursive: true }));
      const pipe = join(pipes, "pipe");
      assert.equal(spawnSync("mkfifo", [pipe]).status, 0);
      await using disk = await Vringd.start({ byteLength: DISK_BYTES });
      await using daemon = await startRng(pipe);
      const { socketPath } = disk;
      await using guest = await startQemuGuest(
        guestOf(daemon, {
          qemu,
          socketPath,
          modules: ["rng_core"],
          unloadedModules: ["virtio_rng"],
          script: randomInBackground,
        }),
      );
      for (const life of ["first", "second"]) {
        if (life === "second") await guest.reset();
        await guest.waitForReport("ROUND", GUEST_MS_MAX);
        for (const round of ["1", "2"]) {
          guest.send("go on");
          assert.equal(await guest.waitForReport("ROUND", GUEST_MS_MAX), round);
          await guest.qmp("stop");
          await guest.qmp("cont");
        }
      }
      const contents = randomBytes(4096);
      writeFileSync(pipe, contents);
      guest.send("end");
      const { ok, values, console } = await guest.exit();
      assert.ok(ok, console);
      const read = Buffer.from(values.get("RANDOM")!, "hex");
      assert.equal(read.length, 256);
      assertKernelsShare(t, gapsIn(contents, read));
    });

    test("outlives the daemon, and the next guest is served by the next daemon", async () => {
      await using daemon = await startRng();
      const script = "report READY 1\nread -r line\nreport ALIVE 1";
      await using guest = await startQemuGuest(guestOf(daemon, { qemu, script }));
      await guest.waitForReport("READY", GUEST_MS_MAX);
      await daemon.kill9();
      await daemon.restart();
      await guest.qmp("query-status");
      guest.send("go on");
      const { ok, values, console } = await guest.exit();
      assert.ok(ok && values.has("ALIVE"), console);
      const next = await runQemuGuest(guestOf(daemon, { qemu, script: randomToDisk(1) }));
      assert.ok(next.ok, next.console);
    });
  });
}

function percent(part: number): string {
  return `${(100 * part).toFixed(2)} %`;
}
