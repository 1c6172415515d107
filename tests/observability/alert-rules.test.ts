// The alerts that come along: each fires when it should, and none on a machine that is well. By promtool, with series made up.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { ROOT } from "../support/installation.ts";
import { Observed } from "../support/observed.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";

const RULES = join(ROOT, "host/observability/alert-rules.yaml");

/** Ten minutes and more of it, a value a minute. */
const STEADY = "x30";
const DEVICE = 'instance="localhost:10110",device="vm1",type="block"';

/** Values as promtool writes series: from, by how much more, how often. */
type Series = Record<string, string>;

const WELL: Series = {
  'vringd_up{device="vm1",instance="localhost:10110"}': `1+0${STEADY}`,
  [`vringd_blk_info{${DEVICE}}`]: `1+0${STEADY}`,
  [`process_start_time_seconds{${DEVICE}}`]: `1000+0${STEADY}`,
  [`vringd_blk_failed_requests_total{${DEVICE},queue="0"}`]: `2+0${STEADY}`,
  [`vringd_blk_requests_total{${DEVICE},queue="0",op="read"}`]: `0+600${STEADY}`,
  [`vringd_blk_requests_in_flight{${DEVICE},queue="0"}`]: `4+0${STEADY}`,
  [`vringd_blk_rings_broken_total{${DEVICE}}`]: `1+0${STEADY}`,
  [`vringd_blk_fenced{${DEVICE}}`]: `0+0${STEADY}`,
  [`vringd_blk_silent_seconds{${DEVICE}}`]: `0+0${STEADY}`,
  [`vringd_blk_standby_ready{${DEVICE}}`]: `1+0${STEADY}`,
  [`vringd_blk_request_duration_seconds_bucket{${DEVICE},queue="0",op="read",le="0.001"}`]: `0+600${STEADY}`,
  [`vringd_blk_request_duration_seconds_bucket{${DEVICE},queue="0",op="read",le="2"}`]: `0+600${STEADY}`,
  [`vringd_blk_request_duration_seconds_bucket{${DEVICE},queue="0",op="read",le="+Inf"}`]: `0+600${STEADY}`,
};

/** What is otherwise where something is wrong: the beginning of a series' name, and its values. */
const SICK: Readonly<Record<string, readonly [start: string, values: string]>> = {
  VringdDeviceDown: ["vringd_up", `0+0${STEADY}`],
  VringdRequestsFail: ["vringd_blk_failed_requests_total", `0+1${STEADY}`],
  VringdRequestsHang: ["vringd_blk_requests_total", `600+0${STEADY}`],
  VringdRequestsSlow: [
    `vringd_blk_request_duration_seconds_bucket{${DEVICE},queue="0",op="read",le="0.001"`,
    `0+6${STEADY}`,
  ],
  VringdRingBroken: ["vringd_blk_rings_broken_total", "1+0x20 2+0x10"],
  VringdDiskFenced: ["vringd_blk_fenced", `1+0${STEADY}`],
  VringdStorageSilent: ["vringd_blk_silent_seconds", `0+60${STEADY}`],
  VringdNoStandby: ["vringd_blk_standby_ready", `0+0${STEADY}`],
  VringdRestarts: ["process_start_time_seconds", `1000+60${STEADY}`],
};

/** Only some disks have these: with --standby, and of a Ceph cluster. Their own tests ask for them by name. */
const OF_SOME = ["vringd_blk_standby_ready", "vringd_blk_fenced", "vringd_blk_silent_seconds"];

const text = readFileSync(RULES, "utf8");
const alerts = [...text.matchAll(/^ +- alert: (\w+)$/gm)].map(([, name]) => name!);

/** Asks by an expression, since what an alert says is not compared. */
function firing(series: Series): string[] {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  try {
    const expected = (exp_samples: object[]) => ({
      expr: 'count by (alertname) (ALERTS{alertstate="firing"})',
      eval_time: "25m",
      exp_samples,
    });
    const file = join(directory, "test.yaml");
    const check = (exp_samples: object[]) => {
      // JSON is YAML.
      const input_series = Object.entries(series).map(([name, values]) => ({ series: name, values }));
      const tests = [{ interval: "1m", input_series, promql_expr_test: [expected(exp_samples)] }];
      writeFileSync(file, JSON.stringify({ rule_files: [RULES], evaluation_interval: "1m", tests }));
      return spawnSync("promtool", ["test", "rules", file], { encoding: "utf8" });
    };
    const { stderr, stdout } = check([{ labels: '{alertname="none"}', value: 1 }]);
    const output = stderr + stdout;
    const got = /got: ?(.*)/.exec(output)?.[1];
    assert.ok(got !== undefined, output);
    return [...got.matchAll(/alertname=\\?"(\w+)/g)].map(([, name]) => name!).sort();
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe("the alert rules", { skip: skipWithout(whyNoProgram("promtool")) }, () => {
  test("are taken by Prometheus", () => {
    const { status, stdout, stderr } = spawnSync("promtool", ["check", "rules", "--lint-fatal", RULES], {
      encoding: "utf8",
    });
    assert.deepEqual([status, stderr], [0, ""], stdout + stderr);
  });

  test("leave a machine alone that is well", () => assert.deepEqual(firing(WELL), []));

  for (const [alert, [start, values]] of Object.entries(SICK))
    test(`call ${alert}, and nothing else`, () => {
      const [name] = Object.keys(WELL).filter((each) => each.startsWith(start));
      assert.deepEqual(firing({ ...WELL, [name!]: values }), [alert]);
    });

  test("are all tried here", () => assert.deepEqual(Object.keys(SICK), alerts));
});

test("the alert rules ask for metrics that there are", { timeout: 120_000 }, async () => {
  await using observed = await Observed.start();
  const { text: metrics } = await observed.ask("GET", "/v1/metrics");
  const names = new Set(
    [...text.matchAll(/\b(?:vringd_blk|process)_\w+/g)].map(([name]) => name.replace(/_bucket$/, "")),
  );
  const there = (name: string) => metrics.includes(`# TYPE ${name} `);
  assert.deepEqual([...names].filter((name) => !there(name)).sort(), [...OF_SOME].sort());
  for (const [, kind] of text.matchAll(/vringd_\.\+_(\w+)/g)) assert.ok(there(`vringd_blk_${kind}`), kind);
});
