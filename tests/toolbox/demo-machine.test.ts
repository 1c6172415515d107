// The machine behind the page that shows a ring: guest, core and kernel in one memory, without a browser.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from "../../assembly/spec/virtio-blk.ts";
import { RING_SIZES, type RingConfig } from "../../host/demo/config.ts";
import type { Mischief } from "../../host/demo/demo-ring.ts";
import { MISCHIEF } from "../../host/demo/driver-story.ts";
import { instrumentCore } from "../../host/demo/instrumented-core.ts";
import { Machine } from "../../host/demo/machine.ts";
import { makeMemory } from "../../host/demo/memory-map.ts";
import { nextAction, runAction } from "../../host/demo/next-action.ts";
import { parseScenario, parseWish, play, scenarioHash, wishCode } from "../../host/demo/scenario.ts";
import { TOURS } from "../../host/demo/tour.ts";
import { tellSeed } from "../support/random.ts";

const modules = {
  core: await WebAssembly.compile(await readFile(new URL("../core.plain.wasm", import.meta.url))),
  hooked: await WebAssembly.compile(await instrumentCore()),
};
const memory = makeMemory();

const configs: RingConfig[] = [false, true].flatMap((isPacked) =>
  RING_SIZES.flatMap((size) => [false, true].map((hasEventIdx) => ({ isPacked, size, hasEventIdx }))),
);
const nameOf = ({ isPacked, size, hasEventIdx }: RingConfig) =>
  `${isPacked ? "packed" : "split"} ring of ${size}${hasEventIdx ? " with event indices" : ""}`;

function machineAfter(config: RingConfig, codes: string): Machine {
  const machine = new Machine(modules, memory, config);
  for (const code of codes.split(" ")) assert.ok(play(machine, code), `${code} of ${codes}`);
  return machine;
}

const idleWish = parseWish("r0")!;

/** Does what is due until every request has ended. */
function finish(machine: Machine): void {
  for (let turns = 0; machine.guest.pending.length > 0; turns++) {
    assert.ok(turns < 200, "requests never end");
    assert.ok(play(machine, nextAction(machine, idleWish).code));
  }
}

test("a request goes from kick to call, in either format, of any size, with event indices and without", () => {
  for (const config of configs) {
    const machine = machineAfter(config, "w5 k s");
    const [operation] = machine.kernel.operations;
    assert.deepEqual([operation?.name, operation?.offset], ["WRITE", 5 * 512], nameOf(config));
    assert.equal(machine.label(operation!.token), "#1");
    for (const code of ["c0", "s", "u", "r5", "k", "s", "c0", "s", "u"]) assert.ok(play(machine, code), code);
    assert.equal(machine.disk.contents(5), "A");
    const ends = machine.guest.requests.map(({ status, letters }) => [status, letters]);
    assert.deepEqual(ends, Array(2).fill([VIRTIO_BLK_S_OK, "A"]), nameOf(config));
  }
});

test("a crash before any store of a step, and a new core, lose and repeat nothing", () => {
  for (const config of configs) {
    // One write is about to be given back, another request to be taken.
    const codes = `iw2 k s c0 ${config.size === 4 ? "if" : "w3"}`;
    const count = machineAfter(config, codes).rehearse().length;
    assert.ok(count > 5, `${count} stores`);
    for (let before = 0; before <= count; before++) {
      const machine = machineAfter(config, `${codes} x${before} v`);
      finish(machine);
      const statuses = machine.guest.requests.map(({ status }) => status);
      assert.deepEqual(statuses, [VIRTIO_BLK_S_OK, VIRTIO_BLK_S_OK], `${nameOf(config)}, store ${before}`);
      assert.equal(machine.disk.contents(2), "A");
    }
  }
});

for (const mischief of Object.keys(MISCHIEF) as Mischief[]) {
  test(`${MISCHIEF[mischief]} breaks a ring, and a reset mends it`, () => {
    for (const config of configs.filter(({ isPacked }) => !isPacked || mischief !== "head")) {
      const machine = machineAfter(config, `w1 k s b${mischief} s`);
      assert.ok(machine.isBroken, nameOf(config));
      assert.equal(play(machine, "w2"), false);
      assert.ok(play(machine, "z"));
      assert.equal(machine.isBroken, false);
      assert.ok(play(machine, "w2"));
      finish(machine);
      assert.equal(machine.guest.requests[1]?.status, VIRTIO_BLK_S_OK);
      assert.equal(machine.disk.contents(2), "B");
    }
  });
}

test("a machine that runs by itself, and dies again and again, loses nothing", (t) => {
  const random = tellSeed(t);
  const fraction = () => random.below(1 << 20) / (1 << 20);
  for (const config of configs) {
    const machine = new Machine(modules, memory, config);
    const played: string[] = [];
    for (let i = 0; i < 150; i++) {
      const dies = !machine.isCrashed && random.below(12) === 0;
      const code = dies
        ? `x${random.below(machine.rehearse().length + 1)}`
        : runAction(machine, fraction).code;
      played.push(code);
      assert.ok(play(machine, code), played.join("."));
    }
    finish(machine);
    assert.ok(
      machine.guest.requests.every(({ status }) => status === VIRTIO_BLK_S_OK),
      played.join("."),
    );
  }
});

test("a failed operation is an error of its request, a short one goes on", () => {
  const machine = machineAfter(configs[2]!, "w1 k s e0 s u w2x2 k s h0 s");
  assert.equal(machine.guest.requests[0]?.status, VIRTIO_BLK_S_IOERR);
  const [rest] = machine.kernel.operations;
  assert.deepEqual([rest?.offset, rest?.byteLength], [3 * 512, 512]);
  finish(machine);
  assert.deepEqual(
    [2, 3].map((sector) => machine.disk.contents(sector)),
    ["B", "B"],
  );
});

test("a step's story tells its stores in order, with their clauses", () => {
  const machine = machineAfter(configs[3]!, "w5 k s c0 s");
  const codes = machine.log.at(-1)!.lines.map(({ code }) => code);
  assert.deepEqual(codes, [
    "CQE 512",
    "#1.status = OK",
    "entry[0].next = 0",
    "inflight.last_batch_head = 0",
    "used.ring[0].id = 0",
    "used.ring[0].len = 1",
    "used.idx = 1",
    "entry[0].inflight = 0",
    "inflight.used_idx = 1",
    "SQE WRITE",
  ]);
  assert.match(machine.log.at(-1)!.title, /finishes #1 OK; calls the driver/);
});

test("a rehearsal changes nothing", () => {
  const machine = machineAfter(configs[3]!, "w5 k");
  const bytes = new Uint8Array(memory.buffer).slice();
  assert.ok(machine.rehearse().length > 0);
  assert.ok(Buffer.compare(bytes, new Uint8Array(memory.buffer)) === 0);
});

test("an address says what was done, and what it does not understand is left out", () => {
  const scenario = { config: configs[9]!, actions: ["w3", "k", "s", "x4", "v"] };
  assert.deepEqual(parseScenario(scenarioHash(scenario)), scenario);
  assert.deepEqual(parseScenario("#nonsense,7,,").config, { isPacked: false, size: 8, hasEventIdx: true });
  for (const code of ["r3", "iw5x2", "f", "if", "d14x2"]) assert.equal(wishCode(parseWish(code)!), code);
  for (const code of ["r16", "r15x2", "q", "rr1", ""]) assert.equal(parseWish(code), undefined);
  const machine = new Machine(modules, memory, configs[3]!);
  for (const code of ["c0", "x99", "bnonsense", "btoString", "v", "k", "zz", "h"]) {
    assert.equal(play(machine, code), false, code);
  }
});

test("every tour can be walked, and dies where its text says", () => {
  for (const { name, config, stops } of TOURS) {
    const machine = new Machine(modules, memory, config);
    for (const code of stops.flatMap(({ codes }) => codes))
      assert.ok(play(machine, code), `${code} of ${name}`);
  }
  const { config, stops } = TOURS[1]!;
  const codes = stops.slice(0, 3).flatMap((stop) => stop.codes);
  const machine = machineAfter(config, codes.join(" "));
  assert.equal(
    machine.log
      .at(-1)!
      .lines.filter(({ code }) => code !== undefined)
      .at(-1)!.code,
    "used.idx = 1",
  );
});
