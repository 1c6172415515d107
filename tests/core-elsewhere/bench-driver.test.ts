// The benchmark's ring driver: every ring format, with data that is checked, against the daemon.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { Attachment } from "../../host/front-end/load/attachment.ts";
import type { GuestOptions, Load } from "../../host/front-end/load/driven-guest.ts";
import { bucketsOf } from "../../host/front-end/load/histogram.ts";
import { RingDriver } from "../../host/front-end/load/ring-driver.ts";
import { type Manner, Rounds } from "../../host/front-end/load/rounds.ts";
import { percentileNs } from "../../host/histogram.ts";
import { signalEventfd } from "../../host/linux/eventfd.ts";
import { DRIVER_WASM, Vringd } from "../support/vringd.ts";

const IMAGE_SIZE = 8 << 20;
const GUEST: GuestOptions = {
  memoryBytes: 256 << 20,
  queues: 1,
  depth: 32,
  packed: false,
  indirect: true,
  eventIdx: true,
  blockBytes: 4096,
  segments: 1,
  isChecked: true,
};
const BLOCKS = IMAGE_SIZE / GUEST.blockBytes;

/** Eight bytes at offset x of the disk hold one of these plus x. */
const FIRST_STAMP = 0x1000_0000_0000;
const SECOND_STAMP = 0x2000_0000_0000;

const WRITE_ALL = { readPercent: 0, isSequential: true, blocks: BLOCKS, seed: 1, stamp: FIRST_STAMP };
const READ = { ...WRITE_ALL, readPercent: 100, isSequential: false };
const OVERWRITE = { ...READ, readPercent: 0, stamp: SECOND_STAMP };

test("The ring driver imports its memory, and no function.", () => {
  const module = new WebAssembly.Module(readFileSync(resolve("build/driver.wasm")));
  assert.deepEqual(WebAssembly.Module.imports(module), [{ module: "env", name: "memory", kind: "memory" }]);
});

describe("The ring driver", { timeout: 120_000 }, () => {
  let driver: RingDriver;
  let daemon: Vringd;

  before(async () => {
    driver = await RingDriver.load(readFileSync(DRIVER_WASM));
    daemon = await Vringd.start({ args: ["--packed", "--num-queues=4"], byteLength: IMAGE_SIZE });
  });
  after(() => daemon[Symbol.asyncDispose]());

  /** Attaches a guest to the daemon, and hands `use` what makes it do `count` requests in each queue. */
  async function withGuest(
    options: Partial<GuestOptions>,
    manner: Manner,
    use: (perform: (load: Load, count: number) => number, attachment: Attachment) => void,
  ): Promise<void> {
    const attachment = await Attachment.make(driver, daemon.socketPath, { ...GUEST, ...options });
    const { guest } = attachment;
    const rounds = new Rounds(driver, guest, manner);
    try {
      use((load, count) => {
        const { finished, failures } = guest;
        guest.setLoad(load);
        rounds.finish(count);
        assert.equal(guest.finished - finished, count * guest.queues.length);
        return guest.failures - failures;
      }, attachment);
    } finally {
      rounds.close();
      attachment.close();
    }
  }

  const formats: [name: string, options: Partial<GuestOptions>][] = [
    ["split", { indirect: false }],
    ["split with indirect tables", {}],
    ["split without event indices", { eventIdx: false }],
    ["packed", { packed: true, indirect: false }],
    ["packed with indirect tables", { packed: true }],
    ["packed without event indices", { packed: true, eventIdx: false }],
    ["split with four data buffers a request", { indirect: false, segments: 4 }],
    ["packed with four data buffers a request", { packed: true, segments: 4 }],
    ["four queues", { queues: 4 }],
    ["one request at a time", { depth: 1 }],
    ["a guest of 16 GiB", { memoryBytes: 16 * 2 ** 30, queues: 2 }],
  ];
  for (const [name, options] of formats) {
    for (const manner of ["poll", "sleep"] as const) {
      test(`reads what it wrote, and the image holds it: ${name}, ${manner}.`, async () => {
        await withGuest(options, manner, (perform) => {
          const queues = options.queues ?? 1;
          assert.equal(perform(WRITE_ALL, BLOCKS / queues), 0);
          assert.equal(perform(READ, 3000), 0);
          assert.equal(perform(OVERWRITE, 500), 0);
        });
        const { first, second } = stampsIn(daemon);
        assert.equal(first + second, IMAGE_SIZE / 8);
        assert.ok(second > 0 && first > 0, `${first} and ${second}`);
      });
    }
  }

  test("counts reads that don't find what they should.", async () => {
    await withGuest({}, "poll", (perform) => {
      perform(WRITE_ALL, BLOCKS);
      assert.equal(perform({ ...READ, stamp: SECOND_STAMP }, 1000), 1000);
    });
  });

  test("counts requests that the device fails.", async () => {
    await withGuest({ isChecked: false }, "poll", (perform) => {
      const beyond = { ...READ, isSequential: true, blocks: BLOCKS + 7, stamp: 0 };
      assert.equal(perform(beyond, beyond.blocks), 7);
    });
  });

  test("mixes reads and writes as it is told.", async () => {
    await withGuest({}, "poll", (perform) => {
      perform(WRITE_ALL, BLOCKS);
      // Writes succeed, and so do the reads of blocks that were written by then.
      const failures = perform({ ...READ, readPercent: 70, stamp: SECOND_STAMP }, 4000);
      assert.ok(failures > 400 && failures < 4000 * 0.7, `${failures} reads of what was not written yet`);
    });
  });

  test("reaches blocks that 32 bits can't count.", async () => {
    const sectors = 2 ** 32;
    await using large = await Vringd.start({ byteLength: sectors * 512 });
    const attachment = await Attachment.make(driver, large.socketPath, {
      ...GUEST,
      blockBytes: 512,
      isChecked: false,
    });
    const rounds = new Rounds(driver, attachment.guest, "poll");
    try {
      attachment.guest.setLoad({ ...READ, blocks: 2 * sectors, stamp: 0 });
      rounds.finish(4000);
      // Half of them lie behind the end.
      const { failures } = attachment.guest;
      assert.ok(failures > 1600 && failures < 2400, `${failures}`);
    } finally {
      rounds.close();
      attachment.close();
    }
  });

  test("keeps away from what lies before its first sector.", async () => {
    await withGuest({}, "poll", (perform) => {
      perform(WRITE_ALL, BLOCKS);
      const behind = { ...OVERWRITE, firstSector: IMAGE_SIZE / 1024, blocks: BLOCKS / 2, isSequential: true };
      assert.equal(perform(behind, BLOCKS / 2), 0);
    });
    const bytes = daemon.imageBytes(0, IMAGE_SIZE / 512);
    for (let at = 0; at < bytes.length; at += 8) {
      const stamp = at < IMAGE_SIZE / 2 ? FIRST_STAMP : SECOND_STAMP;
      assert.equal(Number(bytes.readBigUInt64LE(at)) - at, stamp);
    }
  });

  for (const ns of [1, 63, 64, 1000, 123_456, 10_000_000_000]) {
    test(`records a latency of ${ns} ns to within 1.6 %.`, async () => {
      await withGuest({ depth: 1 }, "poll", (perform, { guest }) => {
        perform(WRITE_ALL, 1);
        guest.resetLatencies();
        const [queue] = guest.queues;
        guest.allow(1);
        driver.calls.turn(queue!, 5000);
        signalEventfd(guest.kickFds[0]!);
        while (guest.inFlight > 0) driver.calls.turn(queue!, 5000 + ns);
        for (const percent of [1, 50, 100]) {
          const found = percentileNs(bucketsOf(guest.latencies().all), percent)!;
          assert.ok(Math.abs(found - ns) <= ns * 0.016, `${found}`);
        }
      });
    });
  }

  const refused: [what: string, options: Partial<GuestOptions>][] = [
    ["more requests in flight than it has memory for", { queues: 4, depth: 256 }],
    ["more data in flight than it can check", { depth: 256, blockBytes: 131072 }],
    ["a ring larger than QEMU has them", { indirect: false, depth: 400 }],
    [
      "a guest with too little memory",
      { memoryBytes: 64 << 20, depth: 512, blockBytes: 131072, isChecked: false },
    ],
  ];
  for (const [what, options] of refused) {
    test(`refuses ${what}.`, async () => {
      const attached = Attachment.make(driver, daemon.socketPath, { ...GUEST, ...options });
      await assert.rejects(attached, RangeError);
    });
  }
});

/** How many eight-byte words of the image hold which stamp. */
function stampsIn(daemon: Vringd): { first: number; second: number } {
  const bytes = daemon.imageBytes(0, IMAGE_SIZE / 512);
  const count = { first: 0, second: 0 };
  for (let at = 0; at < bytes.length; at += 8) {
    const stamp = Number(bytes.readBigUInt64LE(at)) - at;
    if (stamp === FIRST_STAMP) count.first++;
    if (stamp === SECOND_STAMP) count.second++;
  }
  return count;
}
