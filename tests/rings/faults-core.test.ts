// The core with an engine that does everything an engine may do to it: whatever comes, each request ends once, with the
// status that its results ask for and the data that it was about, and nothing waits for what is never answered.
import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { CoreHarness, GUEST_PTR } from "../support/core-harness.ts";
import { compileDebugCore } from "../support/debug-core.ts";
import { dataAt, FaultyEngine, fillImage } from "../support/faulty-engine.ts";
import { tellSeed } from "../support/random.ts";
import { createDriver, dataGpa } from "../support/scripted-driver.ts";
import { KINDS } from "../support/scripted-requests.ts";

const REQUESTS = 3000;
const DATA_BYTES = 1024;
const PACKED_INITIAL_BASE = 0x80008000;

const core = await compileDebugCore();

describe("a core whose engine fails it", () => {
  let directory: string;
  let fd: number;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
    fd = openSync(join(directory, "disk.img"), "w+");
  });
  after(() => {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  });

  for (const isPacked of [false, true]) {
    for (const isTracked of [false, true]) {
      // The second asks so often that the core loses its patience.
      for (const retryPercent of [15, 97]) {
        const ring = `a ${isPacked ? "packed" : "split"} ring${isTracked ? " that is tracked" : ""}`;
        test(`ends every request right on ${ring}, with ${retryPercent} % retries`, (t) => {
          const random = tellSeed(t);
          const harness = new CoreHarness(core, { beforeStore: () => {} });
          const shape = { size: 8, isPacked, hasEventIdx: random.below(2) === 0 };
          const driver = createDriver(harness.view, GUEST_PTR, shape);
          driver.reset(0);
          const count = retryPercent > 50 ? REQUESTS / 10 : REQUESTS;
          fillImage(fd, count, random);
          const engine = new FaultyEngine(harness, driver, fd, random, retryPercent);
          harness.boot();
          harness.track(isTracked ? shape.size : 0);
          harness.start({ ...driverRing(driver), shape }, isPacked ? PACKED_INITIAL_BASE : 0);

          const turn = () => harness.turn(driver, engine.take);
          while (driver.completed < count) {
            for (let kind = nextKind(); driver.hasRoom(kind) && driver.added < count; kind = nextKind()) {
              dataAt(harness, dataGpa(driver.added), DATA_BYTES).set(random.bytes(DATA_BYTES));
              driver.add(kind);
              if (random.below(2) === 0) break;
            }
            driver.publish();
            turn();
            // Until the ring has come to a stand since whatever is left in it was forgotten.
            const answers = random.between(1, 4);
            for (let i = 0; i < answers; i++) if (!engine.answerOne() && i === 0) engine.remember();
            turn();
            driver.consume(random.below(shape.size + 1));
            if (driver.completed === driver.added) assert.equal(harness.operations.length, 0);
          }

          const { operations, retries, shorts, failures, abandoned, forgotten } = engine.totals;
          t.diagnostic(
            `${count} requests in ${operations} operations: ${retries} retries, ${shorts} short, ` +
              `${failures} failed, ${abandoned} given up, ${forgotten} unanswered for long`,
          );
          if (retryPercent > 50) assert.ok(abandoned > 0);
          else assert.ok(retries > 0 && shorts > 0 && failures > 0 && forgotten > 0);

          function nextKind() {
            return KINDS[driver.added % KINDS.length]!;
          }
        });
      }
    }
  }
});

function driverRing({
  descPtr,
  driverPtr,
  devicePtr,
}: {
  descPtr: number;
  driverPtr: number;
  devicePtr: number;
}) {
  return { descPtr, driverPtr, devicePtr };
}
