// What Prometheus gets, checked by Prometheus itself where it is installed, and the dashboard that asks for it.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import dashboard from "../../host/observability/grafana-dashboard.json" with { type: "json" };
import { formatMetricsAddress, parseMetricsAddress } from "../../host/observability/metrics-address.ts";
import { freePort } from "../support/free-port.ts";
import { ask, askPort } from "../support/observed.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { Vringd } from "../support/vringd.ts";

const SCRAPE_TIMEOUT_MS = 30_000;

/** A sample's value by its name and labels, such as 'x{queue="0"}'. */
function sampleOf(text: string, series: string): number | undefined {
  const line = text.split("\n").find((each) => each.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length));
}

describe("the metrics of a daemon", { timeout: 180_000 }, () => {
  let port: number;
  let daemon: Vringd;
  let frontEnd: FrontEnd;

  before(async () => {
    port = await freePort();
    daemon = await Vringd.start({ args: [`--metrics=127.0.0.1:${port}`, "--num-queues=4"] });
    frontEnd = await FrontEnd.connect(daemon.socketPath);
    // From now on requests are timed.
    await askPort(port, "/metrics");
    await frontEnd.disk().getId();
    for (let i = 0; i < 10; i++) await frontEnd.disk().read(8 * i, 8);
    await frontEnd.disk().write(0, Buffer.alloc(512));
    await frontEnd.disk().flush();
    await frontEnd.disk().writeZeroes([{ sector: 0, sectors: 8 }]);
  });
  after(async () => {
    frontEnd.close();
    await daemon[Symbol.asyncDispose]();
  });

  test("count what was done, by queue and operation", async () => {
    const { text, status } = await askPort(port, "/metrics");
    assert.equal(status, 200);
    const of = (name: string) => sampleOf(text, `vringd_blk_${name}`);
    assert.equal(of('requests_total{queue="0",op="read"}'), 10);
    assert.equal(of('requests_total{queue="0",op="write"}'), 1);
    assert.equal(of('requests_total{queue="0",op="flush"}'), 1);
    assert.equal(of('requests_total{queue="0",op="write_zeroes"}'), 1);
    assert.equal(of('requests_total{queue="0",op="get_id"}'), 1);
    assert.equal(of('bytes_total{queue="0",op="read"}'), 40960);
    assert.equal(of('bytes_total{queue="0",op="write"}'), 512);
    assert.equal(of('failed_requests_total{queue="0"}'), 0);
    assert.equal(of('requests_in_flight{queue="0"}'), 0);
    assert.equal(of('ring_running{queue="0"}'), 1);
    assert.equal(of("front_end_connected"), 1);
    assert.equal(of("size_bytes"), 64 << 20);
    assert.ok(sampleOf(text, "process_resident_memory_bytes")! > 2 ** 20);
    // Queues that nobody uses take no room.
    assert.doesNotMatch(text, /queue="1"/);
  });

  test("have histograms whose buckets add up", async () => {
    const { text } = await askPort(port, "/metrics");
    const series = 'vringd_blk_request_duration_seconds_bucket{queue="0",op="read",le="';
    const counts = text.split("\n").filter((line) => line.startsWith(series));
    const bounds = counts.map((line) =>
      Number(line.slice(series.length).replace(/".*/, "").replace("+Inf", "Infinity")),
    );
    const values = counts.map((line) => Number(line.replace(/.* /, "")));
    assert.deepEqual(
      bounds,
      [...bounds].sort((a, b) => a - b),
    );
    assert.deepEqual(
      values,
      [...values].sort((a, b) => a - b),
    );
    assert.equal(values.at(-1), 10);
    const total = (name: string) =>
      sampleOf(text, `vringd_blk_request_duration_seconds_${name}{queue="0",op="read"}`)!;
    assert.equal(total("count"), 10);
    assert.ok(total("sum") > 0 && total("sum") < 60);
  });

  test("are nowhere but at /metrics", async () => {
    for (const path of ["/", "/v1/quit", "/v1/status"]) assert.equal((await askPort(port, path)).status, 404);
  });

  test("pass promtool", { skip: skipWithout(whyNoProgram("promtool")) }, async () => {
    const { text } = await askPort(port, "/metrics");
    const { status, stdout, stderr } = spawnSync("promtool", ["check", "metrics"], {
      input: text,
      encoding: "utf8",
    });
    assert.deepEqual([status, stdout, stderr], [0, "", ""]);
  });

  test("are read by Prometheus", { skip: skipWithout(whyNoProgram("prometheus")) }, async () => {
    const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
    const own = await freePort();
    writeFileSync(
      join(directory, "prometheus.yml"),
      `scrape_configs:\n  - job_name: vringd\n    scrape_interval: 1s\n    static_configs: [{targets: ["127.0.0.1:${port}"]}]\n`,
    );
    const child = spawn(
      "prometheus",
      [
        `--config.file=${join(directory, "prometheus.yml")}`,
        `--storage.tsdb.path=${join(directory, "data")}`,
        `--web.listen-address=127.0.0.1:${own}`,
      ],
      { stdio: "ignore" },
    );
    const ended = new Promise((resolve) => child.once("close", resolve));
    try {
      const query = async (text: string) => {
        const { text: answer } = await askPort(own, `/api/v1/query?query=${encodeURIComponent(text)}`);
        return JSON.parse(answer).data.result as {
          metric: Record<string, string>;
          value: [number, string];
        }[];
      };
      const result = await untilSome(() => query('vringd_blk_requests_total{op="read"}'));
      assert.deepEqual(
        result.map(({ metric, value }) => [metric.queue, value[1]]),
        [["0", "10"]],
      );
      const quantile =
        'histogram_quantile(0.5, sum by (le) (vringd_blk_request_duration_seconds_bucket{op="read"}))';
      const [median] = await untilSome(() => query(quantile));
      assert.ok(Number(median!.value[1]) > 0 && Number(median!.value[1]) < 10);
      const [up] = await query("up");
      assert.equal(up!.value[1], "1");
      await dashboardIsAnswered(query);
    } finally {
      child.kill();
      await ended;
      rmSync(directory, { recursive: true });
    }
  });

  test("are all that the dashboard asks for", async () => {
    const { text } = await askPort(port, "/metrics");
    const types = new Map(
      [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name!, type!]),
    );
    const asked = expressions().flatMap(
      (expression) => expression.match(/\b(?:vringd_blk|process)_\w+/g) ?? [],
    );
    assert.ok(asked.length > 10);
    for (const name of asked) {
      const base = name.replace(/_(bucket|sum|count)$/, "");
      assert.ok(types.has(name) || types.get(base) === "histogram", `${name} is no metric`);
    }
    const panelled = [...types.keys()].filter((name) => name.startsWith("vringd_blk_"));
    assert.deepEqual(
      panelled.filter((name) => !asked.some((each) => each.startsWith(name))),
      NOT_ON_DASHBOARD,
    );
  });
});

/** Of no use as a curve. */
const NOT_ON_DASHBOARD = [
  "vringd_blk_bps_total_limit",
  "vringd_blk_bps_read_limit",
  "vringd_blk_bps_write_limit",
  "vringd_blk_iops_total_limit",
  "vringd_blk_iops_read_limit",
  "vringd_blk_iops_write_limit",
  "vringd_blk_active",
  "vringd_blk_read_only",
];

function expressions(): string[] {
  const { panels, templating } = dashboard;
  const variables = templating.list.flatMap((variable) =>
    "query" in variable ? [String(variable.query)] : [],
  );
  return [...panels.flatMap((panel) => (panel.targets ?? []).map(({ expr }) => expr)), ...variables];
}

type Query = (text: string) => Promise<unknown[]>;

/** Prometheus takes every query of the dashboard. */
async function dashboardIsAnswered(query: Query): Promise<void> {
  for (const { targets } of dashboard.panels) {
    for (const { expr } of targets ?? []) {
      const filled = expr.replace(/\$(instance|device)/g, ".*").replaceAll("$__rate_interval", "1m");
      assert.ok(Array.isArray(await query(filled)), expr);
    }
  }
}

async function untilSome<T>(look: () => Promise<T[]>): Promise<T[]> {
  for (const deadline = performance.now() + SCRAPE_TIMEOUT_MS; ; await sleep(100)) {
    const found = await look().catch(() => []);
    if (found.length > 0) return found;
    assert.ok(performance.now() < deadline, "Prometheus has read nothing");
  }
}

test("metrics at a Unix socket are for its owner alone", { timeout: 180_000 }, async () => {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  try {
    const path = join(directory, "metrics.sock");
    await using _daemon = await Vringd.start({ args: [`--metrics=unix:${path}`] });
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.match((await ask(path, "GET", "/metrics")).text, /^vringd_blk_info\{version="/m);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a port that is in use is refused with a sentence", { timeout: 180_000 }, async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  try {
    const start = Vringd.start({ args: [`--metrics=127.0.0.1:${port}`] });
    await assert.rejects(
      start,
      /ended with 1: .*can't listen on 127\.0\.0\.1:\d+ for --metrics: address already in use/s,
    );
  } finally {
    server.close();
  }
});

describe("an address for metrics", () => {
  for (const text of ["127.0.0.1:9100", "127.8.9.10:1", "[::1]:65535", "unix:/run/x.sock"]) {
    test(`may be ${text}`, () => assert.equal(formatMetricsAddress(parseMetricsAddress(text)!), text));
  }

  test("may be localhost, which is 127.0.0.1", () => {
    assert.deepEqual(parseMetricsAddress("localhost:80"), { host: "127.0.0.1", port: 80 });
  });

  for (const text of [
    "0.0.0.0:9100",
    ":9100",
    "9100",
    "192.168.1.1:9100",
    "[::]:9100",
    "[2001:db8::1]:9100",
    "[::ffff:10.0.0.1]:9100",
    "example.com:9100",
    "127.0.0.1",
    "127.0.0.1:0",
    "127.0.0.1:65536",
    "127.0.0.1:9100x",
    "127.1:9100",
    "unix:",
    "",
  ]) {
    test(`may not be "${text}"`, () => assert.equal(parseMetricsAddress(text), undefined));
  }
});
