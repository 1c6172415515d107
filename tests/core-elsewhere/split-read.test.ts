// How far a newcomer walks to understand the commonest request: which files of the core a read visits, from its kick to its call.
import assert from "node:assert/strict";
import { dirname } from "node:path";
import { test } from "node:test";
import { CoreHarness, GUEST_PTR } from "../support/core-harness.ts";
import { compileWithTrace } from "../support/function-trace.ts";
import { compareGolden } from "../support/golden.ts";
import { createDriver } from "../support/scripted-driver.ts";
import { READ, resultOf } from "../support/scripted-requests.ts";

const FILES_MAX = 20;
const ROOMS_MAX = 4;

const GOLDEN = "split-read.txt";

/** The functions that a read enters, by file, both in the order in which it comes to them. */
async function wayOfRead(): Promise<Map<string, Set<string>>> {
  const { module, functions } = await compileWithTrace();
  const way = new Map<string, Set<string>>();
  const enter = (id: number) => {
    const [file, name] = functions[id]!;
    way.set(file, (way.get(file) ?? new Set()).add(name));
  };
  const core = new CoreHarness(module, { beforeStore: () => {}, enter });
  const driver = createDriver(core.view, GUEST_PTR, { size: 8, isPacked: false, hasEventIdx: true });
  let calls = 0;
  const notifications = { takeKick: () => driver.takeKick(), call: () => calls++ };
  const turn = () => core.turn(notifications, () => {});
  driver.reset(0);
  core.boot();
  core.track(8);
  core.start(driver, 0);
  turn();
  // The worker sleeps now. What came before is the ring's start, and the call that a successor owes.
  way.clear();
  calls = 0;
  driver.add(READ);
  driver.publish();
  turn();
  assert.equal(core.operations.length, 1);
  core.complete(0, resultOf(core.operations[0]!));
  turn();
  driver.consume(8);
  assert.deepEqual([driver.completed, calls], [1, 1]);
  return way;
}

test("a read on a split ring visits few files and rooms of the core", async (t) => {
  const way = await wayOfRead();
  const files = [...way.keys()];
  const rooms = new Set(files.map(dirname));
  t.diagnostic(`${files.length} files in ${rooms.size} rooms`);
  assert.ok(files.length <= FILES_MAX, `${files.length} files: ${files.join(", ")}`);
  assert.ok(rooms.size <= ROOMS_MAX, `${rooms.size} rooms`);
  // Not each look at a field, which the compiler makes a function of.
  const own = (names: Set<string>) => [...names].filter((name) => !/#[gs]et:/.test(name));
  const lines = [...way].map(([file, names]) => `${file}.ts: ${own(names).join(", ")}\n`);
  compareGolden(GOLDEN, lines.join(""), "A read goes another way through the core: npm run golden shows it.");
});
