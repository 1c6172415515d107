// A guest moves between two QEMUs, each with a back-end process of its own, and both with one image, under a load that verifies what it wrote.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { type QemuGuest, qemuUnavailable, startQemuGuest, TRIXIE_QEMU } from "../support/guest.ts";
import { begin, migrate, nextRound, reached } from "../support/guest-migration.ts";
import { movedUnderLoad } from "../support/guest-scripts.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { isLocked } from "../support/two-processes.ts";
import { Vringd } from "../support/vringd.ts";

const DISK_SIZE = 32 << 20;
const MEMORY_MIB = 512;
const MOVES = Number(process.env.VRINGD_TEST_MOVES ?? 2);
const LIFE_MS_MAX = 1_800_000;
/** So slow that a migration does not end by itself, in bytes a second. */
const TOO_SLOW = 1 << 20;

const TAKEN = / the disk is taken over /;
const RELEASED = / the disk is let go /;

/** Where a guest runs: a QEMU, and the daemon that serves its disk. */
interface Place {
  guest: QemuGuest;
  daemon: Vringd;
}

class Journey {
  private readonly directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  private readonly guests = new Set<QemuGuest>();
  private incomings = 0;

  private constructor(
    readonly source: Vringd,
    readonly destination: Vringd,
    private readonly packed: boolean,
  ) {}

  static async begin(packed: boolean): Promise<Journey> {
    const args = ["--packed", "--log-level=debug"];
    const source = await Vringd.start({ byteLength: DISK_SIZE, args });
    try {
      const destination = await Vringd.start({ blkFile: source.imagePath, args: [...args, "--incoming"] });
      return new Journey(source, destination, packed);
    } catch (error) {
      await source[Symbol.asyncDispose]();
      throw error;
    }
  }

  async start(daemon: Vringd, incoming?: string): Promise<Place> {
    const guest = await startQemuGuest({
      qemu: TRIXIE_QEMU,
      socketPath: daemon.socketPath,
      script: movedUnderLoad,
      programs: ["fio"],
      memoryMiB: MEMORY_MIB,
      packed: this.packed,
      timeoutMs: LIFE_MS_MAX,
      ...(incoming && { extraArgs: ["-incoming", `unix:${incoming}`] }),
    });
    this.guests.add(guest);
    return { guest, daemon };
  }

  /** A QEMU that waits for the guest. */
  async await(daemon: Vringd): Promise<Place & { incoming: string }> {
    const incoming = join(this.directory, `incoming-${this.incomings++}`);
    return { ...(await this.start(daemon, incoming)), incoming };
  }

  other({ daemon }: Place): Vringd {
    return daemon === this.source ? this.destination : this.source;
  }

  /** The place that it has left is closed. */
  async move(t: TestContext, place: Place): Promise<Place> {
    const { incoming, ...next } = await this.await(this.other(place));
    t.diagnostic(`downtime ${await migrate(place.guest, incoming)} ms`);
    await this.leave(place);
    await nextRound(next.guest);
    return next;
  }

  async leave({ guest }: Place): Promise<void> {
    await guest.qmp("quit").catch(() => {});
    await guest.exit();
  }

  async end({ guest }: Place): Promise<void> {
    guest.send("end");
    const result = await guest.exit();
    assert.ok(result.ok, result.console);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const guest of this.guests) await guest[Symbol.asyncDispose]();
    await this.destination[Symbol.asyncDispose]();
    await this.source[Symbol.asyncDispose]();
    rmSync(this.directory, { recursive: true });
  }
}

const complaints = (daemon: Vringd) => daemon.linesLike(/ (warn|error) /);

describe("a guest of QEMU 10 between two processes with one image", {
  skip: skipWithout(qemuUnavailable(TRIXIE_QEMU), whyNoProgram("fio")),
  timeout: LIFE_MS_MAX,
}, () => {
  for (const packed of [false, true]) {
    test(`moves ${MOVES} times under load on ${packed ? "packed" : "split"} rings`, async (t) => {
      await using journey = await Journey.begin(packed);
      const { source, destination } = journey;
      let place = await journey.start(source);
      await nextRound(place.guest);
      for (let i = 0; i < MOVES; i++) {
        place = await journey.move(t, place);
        assert.equal(journey.other(place).linesLike(RELEASED).length, 1 + (i >> 1));
      }
      await journey.end(place);
      assert.equal(destination.linesLike(TAKEN).length, Math.ceil(MOVES / 2));
      assert.equal(source.linesLike(TAKEN).length, Math.floor(MOVES / 2));
      assert.ok(isLocked(source.imagePath));
      assert.deepEqual([...complaints(source), ...complaints(destination)], []);
    });
  }

  test("stays where it is when its migration is cancelled, and can be moved after that", async (t) => {
    await using journey = await Journey.begin(false);
    const { source, destination } = journey;
    const place = await journey.start(source);
    await nextRound(place.guest);
    const { incoming, ...cancelled } = await journey.await(destination);
    await place.guest.qmp("migrate-set-parameters", { "max-bandwidth": TOO_SLOW });
    await begin(place.guest, incoming);
    await reached(place.guest, "active");
    await place.guest.qmp("migrate_cancel");
    await reached(place.guest, "cancelled");
    await cancelled.guest[Symbol.asyncDispose]();
    await nextRound(place.guest);
    assert.deepEqual(destination.linesLike(TAKEN), []);
    await place.guest.qmp("migrate-set-parameters", { "max-bandwidth": 1 << 30 });
    await journey.end(await journey.move(t, place));
    assert.deepEqual([...complaints(source), ...complaints(destination)], []);
  });

  test("goes on at the source when all of the destination is killed at the switch", async (t) => {
    await using journey = await Journey.begin(false);
    const { source, destination } = journey;
    const place = await journey.start(source);
    const { guest } = place;
    await nextRound(guest);
    const { incoming, ...killed } = await journey.await(destination);
    const pause = (state: boolean) =>
      guest.qmp("migrate-set-capabilities", {
        capabilities: [{ capability: "pause-before-switchover", state }],
      });
    await pause(true);
    await begin(guest, incoming);
    await reached(guest, "pre-switchover");
    await source.waitForLog(RELEASED);
    assert.equal(isLocked(source.imagePath), false);
    await destination.kill9();
    await killed.guest[Symbol.asyncDispose]();
    await guest.qmp("migrate-continue", { state: "pre-switchover" }).catch(() => {});
    await reached(guest, "failed");
    await source.waitForLog(TAKEN);
    await nextRound(guest);
    // And another time it succeeds.
    await pause(false);
    await destination.restart();
    await journey.end(await journey.move(t, place));
    assert.deepEqual(complaints(source), []);
  });
});
