// What may happen to a guest that runs, two or three at a time: it is moved, its disk is resized or limited, memory comes and goes, and
// the daemon is killed. Each of these alone has tests of its own.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { VIRTIO_BLK_T_IN } from "../../assembly/spec/virtio-blk.ts";
import { VIRTIO_F_RING_INDIRECT_DESC } from "../../assembly/spec/virtqueue.ts";
import { encodeBlkHeader } from "../../host/front-end/blk-driver.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import type { RegionLayout } from "../../host/front-end/memory.ts";
import { CrashLoad } from "../support/crash-load.ts";
import { countInflight } from "../support/inflight-entries.ts";
import { moveGuest, PASSES, randomImage } from "../support/migration-load.ts";
import { startLogging } from "../support/moved-memory.ts";
import { Observed } from "../support/observed.ts";
import { type Random, tellSeed } from "../support/random.ts";
import { statusesAt } from "../support/resize-rig.ts";
import { SectorModel } from "../support/sector-model.ts";
import type { Vringd } from "../support/vringd.ts";

const MIB = 1 << 20;
const SECTORS_OF_MIB = MIB / 512;
const IMAGE_SIZE = 8 * MIB;
const OK = [0, 0, 0, 0];
const IOERR = [1, 1, 1, 1];

type BeforePass = NonNullable<Parameters<typeof moveGuest>[3]>;

const FORMATS = [
  { format: "split", packed: false },
  { format: "packed", packed: true },
];

/** Half-way up to where the guest's other memory is, so that the log has bits for it. */
function spareMemory(n: number): RegionLayout {
  const gpa = 0x1_2000_0000 + n * MIB;
  return { gpa, byteLength: MIB, userAddress: 0x5500_0000_0000 + gpa };
}

async function commanded(observed: Observed, ...command: [string, ...string[]]): Promise<void> {
  const { status, error } = await observed.command(...command);
  assert.equal(status, 200, error);
}

/** The daemon dies, and a successor goes on, with the log if there is one. */
const killAndGoOn =
  (daemon: Vringd): BeforePass =>
  async (_pass, frontEnd, log) => {
    await daemon.kill9();
    await daemon.restart();
    await frontEnd.reconnect(daemon.socketPath, []);
    await startLogging(frontEnd, log);
    await frontEnd.startQueue(0, frontEnd.basesAfterCrash()[0]!);
  };

const live: [what: string, events: (observed: Observed) => Partial<Record<number, BeforePass>>][] = [
  [
    "while its disk grows and shrinks",
    (observed) => ({
      3: () => commanded(observed, "resize", "--size=24M"),
      9: () => commanded(observed, "resize", "--size=4M", "--shrink"),
      15: () => commanded(observed, "resize", "--size=16M"),
    }),
  ],
  [
    "while its disk is limited, more, less, and not at all",
    (observed) => ({
      2: () => commanded(observed, "limits", "iops-total=2000"),
      7: () => commanded(observed, "limits", "iops-total=300", "bps-total=4000000"),
      14: () => commanded(observed, "limits", "iops-total=0", "bps-total=0"),
      17: () => commanded(observed, "limits", "iops-read=100"),
    }),
  ],
  [
    "while memory comes and goes",
    () => ({
      4: async (pass, frontEnd) => {
        const region = frontEnd.memory.add(spareMemory(pass));
        assert.equal(await frontEnd.addMemReg(region.description, region.fd), 0n);
      },
      12: async (_pass, frontEnd) => {
        const region = frontEnd.memory.regions.at(-1)!;
        assert.equal(await frontEnd.remMemReg(region.description), 0n);
        frontEnd.memory.remove(region);
      },
    }),
  ],
  [
    "while its daemon is killed, with a limit that the successor has too",
    ({ daemon }) => ({ 5: killAndGoOn(daemon), 13: killAndGoOn(daemon) }),
  ],
];

describe("a guest is moved whole", { timeout: 600_000 }, () => {
  for (const { format, packed } of FORMATS) {
    for (const [what, events] of live) {
      test(`${what}: ${format} ring`, async (t) => {
        const args = ["--packed", ...(what.includes("killed") ? ["--iops-total=3000"] : [])];
        await using observed = await Observed.start({ byteLength: 16 * MIB, args });
        // Of zeroes alone a copy that lacks something would look whole.
        writeFileSync(observed.daemon.imagePath, randomImage(16 * MIB), { flag: "r+" });
        const happens = events(observed);
        let count = 0;
        const beforePass: BeforePass = async (pass, ...rest) => {
          const event = happens[pass];
          if (event === undefined) return;
          await event(pass, ...rest);
          count++;
        };
        const { socketPath } = observed.daemon;
        const { wrong, pages, requests } = await moveGuest(socketPath, tellSeed(t), { packed }, beforePass);
        t.diagnostic(`${requests} requests, ${pages} pages in ${PASSES} passes`);
        assert.equal(count, Object.keys(happens).length);
        assert.ok(pages > 0);
        assert.deepEqual(wrong, []);
      });
    }
  }
});

/** A front-end with a load on its first queue that must lose and repeat nothing, and a second queue for whoever wants one. */
class Loaded {
  readonly model = new SectorModel(IMAGE_SIZE / 512);
  readonly load: CrashLoad;

  private constructor(
    readonly observed: Observed,
    readonly frontEnd: FrontEnd,
    private readonly packed: boolean,
    random: Random,
  ) {
    const indirect = frontEnd.hasFeature(VIRTIO_F_RING_INDIRECT_DESC);
    this.load = new CrashLoad(frontEnd.memory, frontEnd.queues[0]!, this.model, {
      random,
      depth: 32,
      indirect,
    });
    this.load.resume();
  }

  static async start(packed: boolean, t: TestContext, args: readonly string[] = []): Promise<Loaded> {
    const observed = await Observed.start({ byteLength: IMAGE_SIZE, args: ["--packed", ...args] });
    try {
      const setup = { packed, inflight: true, queues: 2, queueSize: 128 };
      const frontEnd = await FrontEnd.connect(observed.daemon.socketPath, setup);
      return new Loaded(observed, frontEnd, packed, tellSeed(t));
    } catch (error) {
      await observed[Symbol.asyncDispose]();
      throw error;
    }
  }

  async killAndComeBack(): Promise<void> {
    const { daemon } = this.observed;
    await daemon.kill9();
    this.model.checkImage(daemon.imagePath);
    await Promise.all([daemon.restart(), this.frontEnd.reconnect(daemon.socketPath)]);
  }

  /** All that was submitted has completed, the record is empty, and the image is what the driver was told. */
  async check(): Promise<void> {
    this.load.pause();
    await this.load.completedUpTo(this.load.submitted, 60_000);
    const { bytes, description } = this.frontEnd.inflight!;
    assert.equal(countInflight(bytes, description, this.packed), 0);
    this.model.checkImage(this.observed.daemon.imagePath);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.load.end();
    this.frontEnd.close();
    await this.observed[Symbol.asyncDispose]();
  }
}

const KILLS = 6;

describe("a daemon is killed, and nothing is lost or repeated", { timeout: 600_000 }, () => {
  for (const { format, packed } of FORMATS) {
    test(`while memory is plugged in and pulled out under load: ${format} ring`, async (t) => {
      await using loaded = await Loaded.start(packed, t);
      const { frontEnd } = loaded;
      const random = tellSeed(t);
      for (let i = 0; i < KILLS; i++) {
        const region = frontEnd.memory.add(spareMemory(i));
        await sleep(random.below(20));
        // Whether it is before the change, amid it or behind it that the daemon dies, nobody knows.
        const plugged = frontEnd.addMemReg(region.description, region.fd).catch(() => {});
        await sleep(random.below(3));
        await loaded.killAndComeBack();
        await plugged;
        const disk = frontEnd.disk(1);
        const { written } = await disk.submitAt(
          [
            { gpa: region.gpa, length: 16, writable: false },
            { gpa: region.gpa + 512, length: 513, writable: true },
          ],
          encodeBlkHeader(VIRTIO_BLK_T_IN, 0),
        );
        assert.equal(written.at(-1), 0, "what was plugged in is there for the successor");
        assert.equal(await frontEnd.remMemReg(region.description), 0n);
        frontEnd.memory.remove(region);
      }
      await loaded.check();
    });

    test(`while its disk is resized and limited: ${format} ring`, async (t) => {
      await using loaded = await Loaded.start(packed, t, ["--iops-total=2000"]);
      const { observed } = loaded;
      const random = tellSeed(t);
      for (let i = 1; i <= KILLS; i++) {
        await commanded(observed, "limits", `iops-total=${random.pick([200, 1000, 4000])}`);
        const resized = observed.command("resize", `--size=${8 + i}M`).catch(() => {});
        await sleep(random.below(20));
        await loaded.killAndComeBack();
        await resized;
      }
      await commanded(observed, "limits", "iops-total=0");
      await loaded.check();
    });
  }
});

describe("a disk that is limited", { timeout: 300_000 }, () => {
  for (const { format, packed } of FORMATS) {
    test(`is resized while requests wait, and each is answered by the size it finds: ${format} ring`, async () => {
      await using observed = await Observed.start({
        byteLength: IMAGE_SIZE,
        args: ["--packed", "--iops-total=100"],
      });
      const setup = { packed, inflight: true };
      await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath, setup);
      const disk = frontEnd.disk();
      disk.requestTimeoutMs = 120_000;
      const waiting = Array.from({ length: 40 }, (_, i) => disk.read(8 * i, 8));
      await commanded(observed, "resize", "--size=12M");
      const beyond = statusesAt(disk, 10 * SECTORS_OF_MIB, 8);
      await Promise.all(waiting);
      assert.deepEqual(await beyond, OK);
      const late = Array.from({ length: 40 }, (_, i) => disk.read(8 * i, 8));
      await commanded(observed, "resize", "--size=4M", "--shrink");
      assert.deepEqual(await statusesAt(disk, 5 * SECTORS_OF_MIB, 8), IOERR);
      await Promise.all(late);
      const { bytes, description } = frontEnd.inflight!;
      assert.equal(countInflight(bytes, description, packed), 0);
    });
  }
});
