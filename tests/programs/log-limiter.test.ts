// The limiter of log lines: first ones at once, then few, and what was left out is counted.
import assert from "node:assert/strict";
import { beforeEach, describe, mock, test } from "node:test";
import { optionFor } from "../../host/command-line/option-name.ts";
import { choice, type NameOfChoice } from "../../host/process/choices.ts";
import type { LogLevel } from "../../host/process/log.ts";
import { LimitedLog, type LogEntry } from "../../host/process/log-limiter.ts";

/** At once; and the milliseconds for one more. */
const BURST = 10;
const EVERY_MS = 10_000;

type Written = [level: string, sentence: string, fields: Record<string, unknown>];

/** What pino is to the limiter. */
class Target {
  readonly lines: Written[] = [];
  readonly error = this.take("error");
  readonly warn = this.take("warn");
  readonly info = this.take("info");
  readonly debug = this.take("debug");

  constructor(public level: string) {}

  private take(level: string) {
    return (first: object | string, second?: string): void => {
      const [fields, sentence] = typeof first === "string" ? [{}, first] : [first, second!];
      this.lines.push([level, sentence, fields as Record<string, unknown>]);
    };
  }
}

let nowMs = 0;

function limited(level: LogLevel = "info"): { log: LimitedLog; target: Target } {
  const target = new Target(level);
  return { log: new LimitedLog(target, undefined, () => nowMs), target };
}

function pass(milliseconds: number): void {
  nowMs += milliseconds;
  mock.timers.tick(milliseconds);
}

/** Lines that were called for: those that are there, and those that they count. */
function counted(lines: readonly Written[]): number {
  return lines.reduce((sum, [, , { leftOut = 0 }]) => sum + 1 + (leftOut as number), 0);
}

describe("the limiter", () => {
  beforeEach(() => {
    nowMs = 0;
    mock.timers.reset();
    mock.timers.enable({ apis: ["setTimeout"] });
  });

  test("passes the first of a kind on at once, as they are", () => {
    const { log, target } = limited();
    log.warn({ ring: 1 }, "broken");
    log.info("alone");
    assert.deepEqual(target.lines, [
      ["warn", "broken", { ring: 1 }],
      ["info", "alone", {}],
    ]);
  });

  test("lets a flood through at a bounded rate, and counts what it leaves out", () => {
    const { log, target } = limited();
    for (let i = 0; i < 60_000; i++) {
      log.warn({ i }, "refused");
      pass(1);
    }
    assert.ok(
      target.lines.length >= BURST + 5 && target.lines.length <= BURST + 6,
      `${target.lines.length} lines`,
    );
    assert.deepEqual(
      target.lines.slice(0, BURST).map(([, , { i }]) => i),
      [...Array(BURST).keys()],
    );
    assert.ok(target.lines.slice(BURST).every(([, , { leftOut }]) => (leftOut as number) > 9000));
    log.flush();
    assert.equal(counted(target.lines), 60_000);
  });

  test("tells the last of a flood though none follows", () => {
    const { log, target } = limited();
    for (let i = 0; i < 100; i++) log.warn({ i }, "refused");
    assert.equal(target.lines.length, BURST);
    pass(EVERY_MS);
    assert.deepEqual(target.lines.slice(BURST), [["warn", "refused", { i: 99, leftOut: 89 }]]);
    pass(10 * EVERY_MS);
    assert.equal(target.lines.length, BURST + 1);
  });

  test("says nothing of having left out nothing", () => {
    const { log, target } = limited();
    for (let i = 0; i <= BURST; i++) log.warn("refused");
    pass(EVERY_MS);
    assert.deepEqual(target.lines.at(-1), ["warn", "refused", {}]);
  });

  test("is as generous as at first after a time of quiet", () => {
    const { log, target } = limited();
    for (const _ of [1, 2]) {
      for (let i = 0; i < BURST; i++) log.warn("refused");
      pass(BURST * EVERY_MS);
    }
    assert.equal(target.lines.length, 2 * BURST);
  });

  test("keeps kinds apart, by sentence and level", () => {
    const { log, target } = limited();
    for (let i = 0; i < 1000; i++) log.warn("refused");
    log.error("refused");
    log.warn("broken");
    assert.deepEqual(
      target.lines.slice(BURST).map(([level, sentence]) => [level, sentence]),
      [
        ["error", "refused"],
        ["warn", "broken"],
      ],
    );
  });

  test("does not count what the level keeps out", () => {
    const { log, target } = limited("error");
    for (let i = 0; i < 1000; i++) log.info("connected");
    log.level = "info";
    assert.equal(target.level, "info");
    log.info("connected");
    pass(EVERY_MS);
    assert.deepEqual(target.lines, [["info", "connected", {}]]);
  });

  test("lets who asks for debug lines see more, and not all", () => {
    const { log, target } = limited("debug");
    for (let i = 0; i < 60_000; i++) {
      log.debug("request");
      log.info("connected");
      pass(1);
    }
    const shown = target.lines.filter(([level]) => level === "debug").length;
    assert.ok(shown > 6000 && shown <= 7001, `${shown} lines in a minute`);
    log.flush();
    assert.equal(counted(target.lines), 120_000);
  });

  test("has a bound on sentences that are no constants", () => {
    const { log, target } = limited();
    for (let i = 0; i < 100_000; i++) log.warn(`refused ${i}`);
    assert.ok(target.lines.length < 300, `${target.lines.length} lines`);
    log.flush();
    assert.equal(counted(target.lines), 100_000);
  });

  test("shows its observer all but debug lines, whatever becomes of them", () => {
    const { log } = limited("error");
    const seen: LogEntry[] = [];
    log.observe = (entry) => seen.push(entry);
    for (let i = 0; i < 100; i++) log.info({ i }, "connected");
    log.debug("request");
    assert.equal(seen.length, 100);
    assert.deepEqual(seen[99], { level: "info", sentence: "connected", fields: { i: 99 } });
  });

  test("calls choices as whoever reads it knows them, in sentences and in fields", () => {
    const sentence = `served through the page cache; ${choice("direct")} needs larger blocks`;
    const fields = { alignment: 4096, advice: `give ${choice("blockSize", 4096)}` };
    const spoken = (nameOf?: NameOfChoice) => {
      const target = new Target("info");
      const log = new LimitedLog(target, nameOf);
      const seen: LogEntry[] = [];
      log.observe = (entry) => seen.push(entry);
      log.warn(fields, sentence);
      const [[, said, saidFields]] = target.lines as [Written];
      assert.deepEqual(seen, [{ level: "warn", sentence: said, fields: saidFields }]);
      return [said, saidFields.advice, saidFields.alignment];
    };
    assert.deepEqual(spoken(), [
      "served through the page cache; direct needs larger blocks",
      "give blockSize: 4096",
      4096,
    ]);
    assert.deepEqual(spoken(optionFor), [
      "served through the page cache; --direct needs larger blocks",
      "give --block-size=4096",
      4096,
    ]);
  });

  test("is not limited twice", () => {
    const { log } = limited();
    assert.equal(LimitedLog.over(log), log);
    assert.notEqual(LimitedLog.over(new Target("info")), log);
  });

  test("works over a log that has no level", () => {
    const { lines, ...methods } = new Target("info");
    const log = new LimitedLog({
      error: methods.error,
      warn: methods.warn,
      info: methods.info,
      debug: methods.debug,
    });
    for (let i = 0; i < 100; i++) log.info("connected");
    log.debug("request");
    assert.equal(lines.length, BURST + 1);
  });
});
