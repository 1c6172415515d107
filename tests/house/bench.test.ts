// The benchmark: that it runs from end to end, and that its arithmetic is right.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { CellResult } from "../bench/cell-run.ts";
import { type Chart, drawChart } from "../bench/chart.ts";
import type { Sample } from "../bench/contender.ts";
import { BASE, cellsOf, GRID_NAMES, nameOf } from "../bench/grid.ts";
import { headlineText } from "../bench/headline.ts";
import { PLACES } from "../bench/images.ts";
import { spreadOf } from "../bench/statistics.ts";
import { ratio } from "../bench/summary.ts";
import { cellText } from "../bench/tables.ts";
import { until } from "../support/until.ts";

const PROGRAM = join(fileURLToPath(import.meta.url).replace(/(.*\/build\/).*/s, "$1"), "tests/bench.mjs");
const BRIEF = ["--grid=short", "--rounds=1", "--seconds=0.1", "--size=16"];
const WIDTH = 80;

describe("npm run bench", { timeout: 120_000 }, () => {
  let out: string;
  let text: string;

  before(() => {
    out = mkdtempSync(join(tmpdir(), "vringd-test-"));
    const run = spawnSync(process.execPath, [PROGRAM, ...BRIEF, `--out=${out}`], { encoding: "utf8" });
    assert.equal(run.status, 0, run.stderr);
    text = run.stdout;
  });
  after(() => rmSync(out, { recursive: true }));

  test("prints a table for each cell, 80 columns wide.", () => {
    for (const cell of cellsOf("short")) assert.ok(text.includes(`\n${nameOf(cell)}\n`), nameOf(cell));
    assert.match(text, /^vringd +[\d,]+ /m);
    for (const line of text.split("\n").slice(0, -2)) assert.ok(line.length <= WIDTH, line);
  });

  test("writes every sample, and none of them failed.", () => {
    const { machine, results } = JSON.parse(readFileSync(join(out, "results.json"), "utf8"));
    assert.equal(machine.node, process.version);
    assert.equal(results.length, cellsOf("short").length);
    for (const { samples } of results) {
      assert.equal(samples.vringd.length, 1);
      assert.ok(samples.vringd[0].iops > 0 && samples.vringd[0].cpuUs > 0 && samples.vringd[0].p50Us > 0);
      assert.equal(samples.vringd[0].failures, 0);
    }
  });

  test("draws charts.", () => {
    for (const name of ["iops.svg", "p99.svg"]) {
      const svg = readFileSync(join(out, name), "utf8");
      assertWellFormed(svg);
      assert.ok(svg.includes(">vringd</text>"));
    }
  });

  test("ends at once on Ctrl-C, and leaves no image behind.", async () => {
    const child = spawn(process.execPath, [PROGRAM, ...BRIEF, "--rounds=1000", `--out=${out}`], {
      stdio: "ignore",
    });
    const ended = once(child, "exit");
    const own = `vringd-bench-${child.pid}-`;
    const scratch = () => readdirSync(PLACES.tmpfs).filter((name) => name.startsWith(own));
    await until(() => scratch().length > 0, "images are made", 20_000);
    child.kill("SIGINT");
    await ended;
    assert.deepEqual(scratch(), []);
  });
});

function sample(iops: number, p99Us = 1): Sample {
  return { iops, p50Us: 1, p99Us, cpuUs: 1, kicks: 0, frontEndShare: 1, failures: 0 };
}

const RESULT: CellResult = {
  cell: BASE,
  samples: {
    vringd: [sample(500, 30), sample(700, 30), sample(600, 30)],
    "vringd-threads": [sample(9000)],
    "qsd-1-threads": [sample(100, 20)],
    "qsd-1-io_uring": [sample(300, 60)],
    fio: [sample(1200)],
  },
  syscalls: { vringd: 0.25 },
  leftOut: {},
};

describe("The arithmetic", () => {
  test("takes the middle of an odd number of values, and between the middle two of an even one.", () => {
    assert.deepEqual(spreadOf([3, 1, 2]), { median: 2, min: 1, max: 3 });
    assert.deepEqual(spreadOf([4, 1, 2, 3]), { median: 2.5, min: 1, max: 4 });
  });

  test("compares with the best peer in each metric: the most IOPS, the least latency.", () => {
    assert.equal(ratio(RESULT, "vringd", "iops", "peer"), 2);
    assert.equal(ratio(RESULT, "vringd", "p99Us", "peer"), 1.5);
    assert.equal(ratio(RESULT, "vringd", "iops", "fio"), 0.5);
  });

  test("compares with nobody where there is nobody.", () => {
    const { vringd } = RESULT.samples;
    assert.equal(ratio({ ...RESULT, samples: { vringd: vringd! } }, "vringd", "iops", "peer"), undefined);
  });

  test("names every cell of a grid differently.", () => {
    for (const grid of GRID_NAMES) {
      const names = cellsOf(grid).map(nameOf);
      assert.equal(new Set(names).size, names.length, grid);
    }
  });
});

describe("The report", () => {
  test("says how much of each target was reached.", () => {
    const text = headlineText([RESULT]);
    assert.match(text, /^4k randread, depth 32, buffered: IOPS +>= 3\.00 +2\.00 +missed$/m);
    assert.match(text, /^4k randread, depth 32, buffered: CPU a request +<= 0\.70 +1\.00 +missed$/m);
    assert.match(text, /^4k randread, depth 32, buffered: IOPS, to fio +>= 0\.70 +0\.50 +missed$/m);
    for (const line of text.split("\n")) assert.ok(line.length <= WIDTH, line);
  });

  test("says that a target is met by saying nothing.", () => {
    const fast = { ...RESULT.samples, vringd: [sample(900)] };
    assert.match(headlineText([{ ...RESULT, samples: fast }]), /: IOPS +>= 3\.00 +3\.00$/m);
  });

  test("tells when the machine had other work.", () => {
    const samples = { vringd: [{ ...sample(1), frontEndShare: 0.5 }] };
    assert.match(cellText({ ...RESULT, samples }), /left the front-end 50 % of its core/);
    assert.doesNotMatch(cellText(RESULT), /Other work/);
  });

  test("tells of failed requests.", () => {
    const samples = { vringd: [{ ...sample(1), failures: 3 }] };
    assert.match(cellText({ ...RESULT, samples }), /^vringd .* 3 failed$/m);
  });
});

test("A chart has a point and a bar for every depth of every line.", () => {
  const points = [1, 2, 64].map((depth) => ({
    depth,
    spread: { median: depth, min: depth / 2, max: depth * 2 },
  }));
  const lines = [
    { name: "one & only", points },
    { name: "two", points },
  ];
  const chart: Chart = { title: "a < b", subtitle: "", yLabel: "us", isLogarithmic: false, lines };
  for (const isLogarithmic of [false, true]) {
    const svg = drawChart({ ...chart, isLogarithmic });
    assertWellFormed(svg);
    assert.equal(svg.match(/<circle /g)?.length, 6);
    assert.equal(svg.match(/<polyline /g)?.length, 2);
    assert.doesNotMatch(svg, /NaN|Infinity|undefined/);
  }
});

/** Every element is closed, and text has no stray markup. */
function assertWellFormed(svg: string): void {
  const open: string[] = [];
  for (const [, slash, name, selfClosing] of svg.matchAll(/<(\/?)(\w+)(?:\s+[\w:-]+="[^"<]*")*\s*(\/?)>/g)) {
    if (slash) assert.equal(open.pop(), name);
    else if (!selfClosing) open.push(name!);
  }
  assert.deepEqual(open, []);
  assert.doesNotMatch(svg.replace(/<[^<>]*>/g, ""), /[<>]|&(?!amp;|lt;)/);
}
