// Who has a disk that goes from one process to another: what is tried, waited for, given back, and never let go.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { DiskActivation } from "../../host/devices/block/activation.ts";
import { NotActivated } from "../../host/devices/device.ts";
import { SILENT } from "../../host/process/log.ts";
import { ActivationGate } from "../../host/session/activation-gate.ts";
import type { Handover } from "../../host/storage/storage.ts";
import { until } from "../support/until.ts";

const FOR_EVER_MS = 3_600_000;

/** A store that another process has, until `isFree`. */
class FakeHandover implements Handover {
  isOurs = false;
  readonly hasLock = true;
  readonly mayChangeSize = true;
  patienceMs = FOR_EVER_MS;
  isFree = false;
  readonly calls: string[] = [];
  /** Of the next call. */
  failure: Error | undefined;
  stuck: Error | undefined;
  /** What the next try waits for. */
  pause: Promise<void> | undefined;
  /** Those that have begun. */
  tries = 0;

  async tryTake(): Promise<boolean> {
    this.tries++;
    await this.pause;
    this.fail();
    this.calls.push(this.isFree ? "take" : "try");
    return this.isFree;
  }

  async describeHolder(): Promise<string> {
    return "in use by somebody";
  }

  async flush(): Promise<void> {
    this.calls.push("flush");
    this.fail();
  }

  async letGo(): Promise<void> {
    this.calls.push("let go");
    const { stuck } = this;
    if (stuck !== undefined) throw stuck;
  }

  private fail(): void {
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
  }
}

class Bench {
  readonly handover = new FakeHandover();
  readonly activation: DiskActivation;
  readonly told: string[] = [];
  readonly gate: ActivationGate;
  areFlushesFailing = false;
  isFit = true;
  /** How much was done of the lock when the disk was left. */
  left: number | undefined;

  constructor(isOurs = false) {
    this.handover.isOurs = isOurs;
    this.activation = new DiskActivation(this.handover, "disk.img");
    const target = {
      taken: async () => {
        if (!this.isFit) throw new RangeError("disk.img is empty");
      },
      leaving: async () => {
        this.left = this.handover.calls.length;
      },
      haveFlushesFailed: () => this.areFlushesFailing,
      failFlushes: () => {
        this.areFlushesFailing = true;
      },
    };
    this.activation.attach(target, SILENT);
    this.gate = new ActivationGate(this.activation, {
      opened: () => this.told.push("opened"),
      refused: (reason) => this.told.push(reason),
    });
  }
}

const systemError = (code: string, errno: number) => Object.assign(new Error(code), { code, errno });

describe("a disk that another process has", () => {
  test("is taken at once where nobody has it any more", async () => {
    const { handover, activation, gate } = new Bench();
    handover.isFree = true;
    assert.equal(activation.lock, "released");
    assert.equal(await gate.pass(), true);
    assert.equal(activation.lock, "held");
    gate.used();
    await gate.end();
    assert.deepEqual(handover.calls, ["take"]);
  });

  test("is waited for, and the rings are told", async () => {
    const { handover, activation, gate, told } = new Bench();
    assert.equal(await gate.pass(), false);
    assert.equal(await gate.pass(), false);
    assert.equal(activation.lock, "waits");
    handover.isFree = true;
    await until(() => told.length > 0, "the gate opens");
    assert.deepEqual(told, ["opened"]);
    assert.equal(await gate.pass(), true);
  });

  test("is given back if no ring starts after all", async () => {
    const bench = new Bench();
    const { handover, activation, gate } = bench;
    handover.isFree = true;
    await gate.pass();
    await gate.end();
    assert.deepEqual(handover.calls, ["take", "flush", "let go"]);
    // Whoever reads it beside the rings has ended before the others may have it.
    assert.equal(bench.left, 1);
    assert.equal(activation.isActive, false);
  });

  test("is given back if nobody waits for it any more when it comes", async () => {
    const { handover, activation, gate, told } = new Bench();
    await gate.pass();
    let goOn = () => {};
    handover.pause = new Promise((resolve) => {
      goOn = resolve;
    });
    // One may have begun before there was a pause.
    const { tries } = handover;
    await until(() => handover.tries > tries, "a try is under way");
    handover.isFree = true;
    const ended = gate.end();
    goOn();
    await ended;
    assert.deepEqual(handover.calls.slice(-3), ["take", "flush", "let go"]);
    assert.equal(activation.isActive, false);
    assert.deepEqual(told, []);
  });

  test("is refused with who has it", async () => {
    const { handover, gate, told, activation } = new Bench();
    handover.patienceMs = 0;
    await gate.pass();
    await until(() => told.length > 0, "it is refused");
    assert.match(told[0]!, /^disk\.img is in use by somebody, which has not let it go/);
    assert.equal(activation.lock, "released");
  });

  test("is refused with what the kernel says, and given back if it can't be served", async () => {
    const { handover, activation } = new Bench();
    handover.failure = systemError("EACCES", 13);
    const { signal } = new AbortController();
    await assert.rejects(activation.untilActive(signal), (error: Error) => {
      assert.ok(error instanceof NotActivated);
      assert.match(error.message, /^disk\.img can't be taken over: permission denied/);
      return true;
    });
    const other = new Bench();
    other.handover.isFree = true;
    other.isFit = false;
    await assert.rejects(other.activation.untilActive(signal), /can't be taken over: disk\.img is empty/);
    assert.deepEqual(other.handover.calls, ["take", "let go"]);
    assert.equal(other.activation.isActive, false);
  });

  test("is changed by nobody", async () => {
    const { activation } = new Bench();
    await assert.rejects(
      activation.change(async () => {}),
      RangeError,
    );
  });
});

describe("a disk that is ours", () => {
  test("is flushed and then let go, once", async () => {
    const { handover, activation } = new Bench(true);
    await Promise.all([activation.inactivate(), activation.inactivate()]);
    assert.deepEqual(handover.calls, ["flush", "let go"]);
  });

  test("is not let go before a change of it has ended", async () => {
    const { handover, activation } = new Bench(true);
    let end = () => {};
    const changing = activation.change(
      () =>
        new Promise<void>((resolve) => {
          end = resolve;
        }),
    );
    const inactivated = activation.inactivate();
    await assert.rejects(
      activation.change(async () => {}),
      RangeError,
    );
    assert.deepEqual(handover.calls, []);
    end();
    await Promise.all([changing, inactivated]);
    assert.deepEqual(handover.calls, ["flush", "let go"]);
  });

  test("is taken again by who asks while it is let go", async () => {
    const { handover, activation } = new Bench(true);
    handover.isFree = true;
    const inactivated = activation.inactivate();
    assert.equal(activation.isActive, false);
    assert.equal(await activation.activate(), true);
    await inactivated;
    assert.deepEqual(handover.calls, ["flush", "let go", "take"]);
  });

  test("is never let go once a flush has failed", async () => {
    const bench = new Bench(true);
    const { handover, activation } = bench;
    handover.failure = systemError("EIO", 5);
    await activation.inactivate();
    assert.equal(activation.isActive, true);
    assert.equal(bench.areFlushesFailing, true);
    await activation.inactivate();
    assert.equal(activation.lock, "held");
    assert.deepEqual(handover.calls, ["flush"]);
  });

  test("stays ours where the kernel does not let it go", async () => {
    const { handover, activation } = new Bench(true);
    handover.stuck = systemError("EMFILE", 24);
    await activation.inactivate();
    assert.equal(activation.isActive, true);
    handover.stuck = undefined;
    await activation.inactivate();
    assert.equal(activation.isActive, false);
  });
});
