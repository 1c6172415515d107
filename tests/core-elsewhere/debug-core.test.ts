// The debug build of the core stops at what neither guest nor front-end can bring about: an engine, or the core itself, that does
// a thing twice. The release takes no notice, and has nothing of these checks in it.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { compileInstrumentedCore } from "../../host/demo/instrumented-core.ts";
import { CoreHarness, GUEST_PTR } from "../support/core-harness.ts";
import { compileDebugCore } from "../support/debug-core.ts";
import { createDriver } from "../support/scripted-driver.ts";
import { READ, resultOf, WRITE } from "../support/scripted-requests.ts";

const FORMATS = [
  { name: "split", isPacked: false, base: 0 },
  { name: "packed", isPacked: true, base: 0x80008000 },
];

const builds = { debug: await compileDebugCore(), release: await compileInstrumentedCore() };

/** A ring with some requests, of which the first is in flight in the end, and was in flight before. */
function rig(build: keyof typeof builds, isPacked: boolean, base: number) {
  const core = new CoreHarness(builds[build], { beforeStore: () => {} });
  const driver = createDriver(core.view, GUEST_PTR, { size: 8, isPacked, hasEventIdx: false });
  driver.reset(0);
  core.boot();
  core.start(driver, base);
  const turn = () => core.turn(driver, () => {});
  const request = (kind = READ) => {
    driver.add(kind);
    driver.publish();
    turn();
    return core.operations.at(-1)!;
  };
  return { core, driver, turn, request };
}

for (const { name, isPacked, base } of FORMATS) {
  describe(`with a ${name} ring`, () => {
    test("a second completion stops the debug build, and does nothing to the release", () => {
      for (const build of ["debug", "release"] as const) {
        const { core, driver, turn, request } = rig(build, isPacked, base);
        const operation = request();
        core.complete(0, resultOf(operation));
        turn();
        core.operations.push(operation);
        core.complete(0, resultOf(operation));
        if (build === "debug") {
          assert.throws(turn, /unreachable/);
        } else {
          turn();
          driver.consume(8);
          assert.equal(driver.completed, 1);
        }
      }
    });

    test("a completion of a request that was never made stops the debug build", () => {
      const { core, turn, request } = rig("debug", isPacked, base);
      const operation = request(WRITE);
      core.operations.push({ ...operation, index: operation.index + 1 });
      core.complete(1, 0);
      assert.throws(turn, /unreachable/);
    });

    test("a ring that is started while it runs stops the debug build", () => {
      const { core, driver, request } = rig("debug", isPacked, base);
      request();
      assert.throws(() => core.start(driver, base), /unreachable/);
    });

    test("requests that are completed once go through the debug build", () => {
      const { core, driver, turn, request } = rig("debug", isPacked, base);
      for (let i = 0; i < 40; i++) {
        const operation = request(i % 2 === 0 ? READ : WRITE);
        core.complete(0, resultOf(operation));
        turn();
        driver.consume(8);
      }
      assert.equal(driver.completed, 40);
    });
  });
}
