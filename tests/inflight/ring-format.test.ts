// The inflight region stays, and the ring format changes: a driver negotiates anew after a reset, and its front-end keeps the region.
// What the rings before have recorded is nobody's any more, and in the other format it would be garbage.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import {
  INFLIGHT_DESC_NUM,
  INFLIGHT_REGION_VERSION,
  INFLIGHT_VERSION,
  PACKED_ENTRIES,
  PACKED_ENTRY_INFLIGHT,
  SPLIT_ENTRIES,
  SPLIT_ENTRY_INFLIGHT,
  SPLIT_ENTRY_SIZE,
} from "../../assembly/spec/inflight.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { createMemfd } from "../../host/linux/memfd.ts";
import { partsOf } from "../../host/memory/inflight-region.ts";
import type { InflightDescription } from "../../host/protocol/codec.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

/** As large as a page: for 64 entries it is whole in either format, so that its size tells nothing. */
const AMBIGUOUS: InflightDescription = { mmapSize: 4096n, mmapOffset: 0n, numQueues: 1, queueSize: 64 };

const CHANGES = [
  { change: "from split to packed", packed: false },
  { change: "from packed to split", packed: true },
];

describe("an inflight region that outlives the format of its rings", { timeout: 600_000 }, () => {
  let daemon: Vringd;
  before(async () => {
    daemon = await Vringd.start({ byteLength: 8 << 20, args: ["--packed", "--num-queues=2"] });
  });
  after(() => daemon[Symbol.asyncDispose]());
  beforeEach(async () => {
    await until(() => !daemon.isMapped(), "nothing is left of the test before");
    daemon.log.length = 0;
  });

  const connect = (packed: boolean) => FrontEnd.connect(daemon.socketPath, { packed, queues: 0 });

  async function writeAndRead(frontEnd: FrontEnd, sector: number): Promise<void> {
    const bytes = Buffer.alloc(512, sector + 1);
    await frontEnd.disk().write(sector, bytes);
    assert.deepEqual(await frontEnd.disk().read(sector, 1), bytes);
  }

  /** As a driver does that resets its device and finds another format: its rings are stopped, and new ones begin. */
  async function renewAs(frontEnd: FrontEnd, packed: boolean): Promise<void> {
    await frontEnd.stopQueue(0);
    await frontEnd.negotiate({ packed, queueSize: 64 });
    const { description, fd } = frontEnd.inflight!;
    assert.equal(await frontEnd.setInflightFd(description, fd), 0n);
    await frontEnd.renewQueue(0);
  }

  /** Says of entries that they are in flight, as a predecessor leaves them. */
  function recordSome(bytes: Buffer, packed: boolean): void {
    const first = packed ? PACKED_ENTRIES + PACKED_ENTRY_INFLIGHT : SPLIT_ENTRIES + SPLIT_ENTRY_INFLIGHT;
    for (let i = 0; i < 3; i++) bytes[first + i * (packed ? 2 : 1) * SPLIT_ENTRY_SIZE] = 1;
  }

  for (const { change, packed } of CHANGES) {
    for (const [what, bring] of [
      ["of ours", (frontEnd: FrontEnd) => frontEnd.trackInflight(1, 128)],
      [
        "whose size fits either",
        (frontEnd: FrontEnd) => frontEnd.bringInflight(AMBIGUOUS, createMemfd("region", 4096)),
      ],
    ] as const) {
      test(`${change} begins anew: one ${what}`, async () => {
        await using frontEnd = await connect(packed);
        const { bytes, description } = await bring(frontEnd);
        await frontEnd.addQueue(64);
        await writeAndRead(frontEnd, 1);
        await frontEnd.stopQueue(0);
        recordSome(bytes, packed);
        for (let round = 0; round < 4; round++) {
          const isPacked = packed !== (round % 2 === 0);
          await renewAs(frontEnd, isPacked);
          await writeAndRead(frontEnd, 10 + round);
          assert.equal(bytes.readUInt16LE(INFLIGHT_REGION_VERSION), INFLIGHT_VERSION);
          assert.equal(bytes.readUInt16LE(INFLIGHT_DESC_NUM), partsOf(description, isPacked).entries);
        }
        assert.deepEqual(daemon.linesLike(/ring broken/), []);
      });

      test(`${change} begins anew for a successor of the daemon's: one ${what}`, async () => {
        await using frontEnd = await connect(packed);
        const { bytes } = await bring(frontEnd);
        await frontEnd.addQueue(64);
        await writeAndRead(frontEnd, 1);
        await daemon.kill9();
        recordSome(bytes, packed);
        await daemon.restart();
        await frontEnd.reconnect(daemon.socketPath, []);
        await renewAs(frontEnd, !packed);
        await writeAndRead(frontEnd, 2);
        // From here on it is a record as any other.
        await daemon.kill9();
        await daemon.restart();
        await frontEnd.reconnect(daemon.socketPath);
        await writeAndRead(frontEnd, 3);
        assert.deepEqual(daemon.linesLike(/ring broken/), []);
      });
    }
  }
});
