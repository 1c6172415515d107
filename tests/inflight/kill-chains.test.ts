// The process of a device killed while it holds chains: its successor takes each of them again once where the queue says
// repeat, answers it with a failure where it says fail, and takes it as a new one where it says forget.
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import { ChainDriver, connectDevice, type Posted } from "../support/chain-driver.ts";
import {
  type Entry,
  FAILED,
  journalBeside,
  orderOf,
  RECOVERIES,
  readJournal,
  SERVED,
} from "../support/chain-journal.ts";
import { countInflight } from "../support/inflight-entries.ts";
import { type Random, tellSeed } from "../support/random.ts";
import { until } from "../support/until.ts";
import { CHAIN_DEVICE_PROGRAM, Vringd } from "../support/vringd.ts";

const FORMATS = [
  { name: "split", packed: false },
  { name: "packed", packed: true },
];

const QUEUE_SIZE = 32;
/** Of each queue, in flight at the most: two descriptors each. */
const DEPTH = 12;
const HELD_MS_MAX = 4;
const PAUSE_MS_MAX = 12;

/** As many kills as fit, but no fewer and no more than these. */
const KILLS_LEAST = 3;
const KILLS = 25;
const TIME_MS = 6000;

const [REPEAT, FAIL, FORGET] = [0, 1, 2];

interface Sent {
  readonly serial: number;
  readonly posted: Posted;
}

class Rig {
  life = 1;
  private readonly drivers: readonly ChainDriver[];
  private readonly sent: readonly Sent[][] = RECOVERIES.map(() => []);

  private constructor(
    readonly daemon: Vringd,
    readonly frontEnd: FrontEnd,
    private readonly packed: boolean,
  ) {
    this.drivers = RECOVERIES.map((_, queue) => new ChainDriver(frontEnd, queue));
  }

  static async start(t: TestContext, packed: boolean): Promise<Rig> {
    const program = [process.execPath, CHAIN_DEVICE_PROGRAM];
    const daemon = await Vringd.start({ program, args: argsOf(packed, 1), blkFile: "none" });
    t.after(() => daemon[Symbol.asyncDispose]());
    const options = { packed, queues: RECOVERIES.length, queueSize: QUEUE_SIZE, inflight: true };
    const frontEnd = await connectDevice(daemon.socketPath, options);
    t.after(() => frontEnd.close());
    return new Rig(daemon, frontEnd, packed);
  }

  get journal(): Map<number, Entry>[] {
    return readJournal(journalBeside(this.daemon.socketPath));
  }

  order(queue: number): number[] {
    return orderOf(journalBeside(this.daemon.socketPath), this.life, queue);
  }

  /** Offers a chain that is held for so long, or as long as the process lives that serves it now. */
  post(queue: number, held: number | "for life", indirect = false): void {
    const serial = this.sent[queue]!.length;
    const [heldMs, heldUntilLife] = held === "for life" ? [0, this.life + 1] : [held, 0];
    const request = Buffer.from(Uint32Array.of(serial, heldMs, heldUntilLife).buffer);
    const posted = this.drivers[queue]!.post([request], [12], { indirect });
    this.sent[queue]!.push({ serial, posted });
  }

  /** Has each queue hold a chain, so that the kill that follows interrupts some. */
  async holdOne(): Promise<void> {
    for (const queue of RECOVERIES.keys()) {
      const serial = this.sent[queue]!.length;
      this.post(queue, "for life");
      await until(() => this.journal[queue]!.has(serial), `the device holds a chain of ${RECOVERIES[queue]}`);
    }
  }

  outstanding(queue: number): number {
    return this.drivers[queue]!.outstanding;
  }

  async kill(): Promise<void> {
    await this.daemon.kill9();
  }

  async comeBack(): Promise<void> {
    this.life++;
    await this.daemon.restart(argsOf(this.packed, this.life));
    await this.frontEnd.reconnect(this.daemon.socketPath);
  }

  /** What became of each chain, by its answer. Each has one, by now or soon. */
  async answers(queue: number): Promise<{ serial: number; life: number; outcome: number }[]> {
    const answers = [];
    for (const { serial, posted } of this.sent[queue]!) {
      const { length, bytes } = await this.drivers[queue]!.used(posted);
      assert.equal(length, 12, `chain ${serial} of ${RECOVERIES[queue]}`);
      const [answered, life, outcome] = [0, 4, 8].map((at) => bytes.readUInt32LE(at));
      assert.equal(answered, serial, "an answer to another chain");
      answers.push({ serial, life: life!, outcome: outcome! });
    }
    return answers;
  }

  get recorded(): number {
    const { bytes, description } = this.frontEnd.inflight!;
    return countInflight(bytes, description, this.packed);
  }
}

function argsOf(packed: boolean, life: number): string[] {
  return [`--life=${life}`, ...(packed ? ["--packed"] : [])];
}

/** Each chain was begun at most once a life, and answered once, as its queue says. Returns how many a kill had interrupted. */
async function check(rig: Rig, queue: number): Promise<number> {
  const journal = rig.journal[queue]!;
  let interrupted = 0;
  for (const { serial, life, outcome } of await rig.answers(queue)) {
    const { begun, failed } = journal.get(serial)!;
    const what = `chain ${serial} of ${RECOVERIES[queue]}: begun in lives ${begun}, failed in ${failed}, answered in ${life}`;
    assert.ok(isRising(begun) && isRising(failed), what);
    if (queue === FAIL) {
      assert.ok(begun.length <= 1, what);
      assert.equal(outcome, failed.length === 0 ? SERVED : FAILED, what);
      assert.equal(failed.at(-1) ?? begun[0], life, what);
      assert.ok(failed.length === 0 || begun.every((one) => one < failed[0]!), what);
    } else {
      assert.deepEqual([failed, outcome, begun.at(-1)], [[], SERVED, life], what);
    }
    if (begun.length + failed.length > 1 || failed.length > 0) interrupted++;
  }
  return interrupted;
}

function isRising(lives: readonly number[]): boolean {
  return lives.every((life, i) => i === 0 || life > lives[i - 1]!);
}

async function load(rig: Rig, random: Random, untilMs: number): Promise<void> {
  do {
    for (const queue of RECOVERIES.keys()) {
      while (rig.outstanding(queue) < DEPTH)
        rig.post(queue, random.below(HELD_MS_MAX + 1), random.below(2) === 0);
    }
    await sleep(1);
  } while (performance.now() < untilMs);
}

for (const { name, packed } of FORMATS) {
  describe(`a device with ${name} rings whose process is killed`, () => {
    test("has its chains taken again, failed or forgotten once, in order, and before new ones", async (t) => {
      const rig = await Rig.start(t, packed);
      for (const queue of RECOVERIES.keys()) for (let i = 0; i < 3; i++) rig.post(queue, "for life");
      await until(() => rig.journal.every(({ size }) => size === 3), "the device holds them");
      assert.equal(rig.recorded, 9);
      await rig.kill();
      for (const queue of RECOVERIES.keys()) for (let i = 0; i < 2; i++) rig.post(queue, 0);
      await rig.comeBack();
      for (const queue of RECOVERIES.keys()) {
        const outcomes = (await rig.answers(queue)).map(({ outcome }) => outcome);
        const old = queue === FAIL ? FAILED : SERVED;
        assert.deepEqual(outcomes, [old, old, old, SERVED, SERVED]);
        assert.deepEqual(rig.order(queue), [0, 1, 2, 3, 4]);
        await check(rig, queue);
      }
      await until(() => rig.recorded === 0, "nothing is recorded any more");
    });

    test("under load, again and again, loses and repeats no chain", async (t) => {
      const rig = await Rig.start(t, packed);
      const random = tellSeed(t);
      const deadlineMs = performance.now() + TIME_MS;
      for (let i = 0; i < KILLS && (i < KILLS_LEAST || performance.now() < deadlineMs); i++) {
        await load(rig, random, performance.now() + random.below(PAUSE_MS_MAX));
        if (i === 0) await rig.holdOne();
        await rig.kill();
        await rig.comeBack();
      }
      const interrupted = [];
      for (const queue of RECOVERIES.keys()) interrupted.push(await check(rig, queue));
      await until(() => rig.recorded === 0, "nothing is recorded any more");
      t.diagnostic(
        `${rig.life - 1} kills; interrupted: ${interrupted[REPEAT]} repeated, ${interrupted[FAIL]} failed, ${interrupted[FORGET]} forgotten`,
      );
      assert.ok(interrupted.every((count) => count > 0));
      assert.equal(await rig.daemon.stop(), 0);
    });
  });
}
