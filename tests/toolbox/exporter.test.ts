// `vringd exporter`: one /metrics of many devices, which come, go, hang and are none of ours.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { Exposition, labelIn, parseExposition } from "../../host/toolbox/exporter/exposition.ts";
import { freePort } from "../support/free-port.ts";
import { ask, askPort } from "../support/observed.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { type Run, startToolbox, toolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const TEXT = [
  "# HELP vringd_x_info What runs here.",
  "# TYPE vringd_x_info gauge",
  'vringd_x_info{version="1",type="x",what="a \\"b\\", }\\\\"} 1',
  "",
  "# HELP vringd_x_seconds Times.",
  "# TYPE vringd_x_seconds histogram",
  'vringd_x_seconds_bucket{queue="0",le="+Inf"} 3',
  "vringd_x_seconds_sum 1.5e-7",
  "",
].join("\n");

async function untilReady({ child }: Run): Promise<void> {
  let log = "";
  child.stderr!.on("data", (part) => {
    log += part;
  });
  await until(
    () => log.includes("ready"),
    () => `the exporter is ready: ${log}`,
  );
}

describe("texts of several devices", () => {
  const merged = (...texts: string[]) => {
    const all = new Exposition();
    for (const [at, text] of texts.entries())
      all.merge(parseExposition(text)!, { device: `d${at}`, type: "x" });
    return all.toString();
  };

  test("become one, with each family once", () => {
    assert.equal(
      merged(TEXT, TEXT.replace("Times", "Other words")),
      `${[
        "# HELP vringd_x_info What runs here.",
        "# TYPE vringd_x_info gauge",
        'vringd_x_info{device="d0",type="x",version="1",what="a \\"b\\", }\\\\"} 1',
        'vringd_x_info{device="d1",type="x",version="1",what="a \\"b\\", }\\\\"} 1',
        "# HELP vringd_x_seconds Times.",
        "# TYPE vringd_x_seconds histogram",
        'vringd_x_seconds_bucket{device="d0",type="x",queue="0",le="+Inf"} 3',
        'vringd_x_seconds_sum{device="d0",type="x"} 1.5e-7',
        'vringd_x_seconds_bucket{device="d1",type="x",queue="0",le="+Inf"} 3',
        'vringd_x_seconds_sum{device="d1",type="x"} 1.5e-7',
      ].join("\n")}\n`,
    );
  });

  test("have their labels read as they were meant", () => {
    const families = parseExposition(TEXT)!;
    assert.equal(labelIn(families, /_info$/, "what"), 'a "b", }\\');
    assert.equal(labelIn(families, /_info$/, "none"), undefined);
  });

  test("get names with quotes in them", () => {
    const all = new Exposition();
    all.gauge("up", "Up.", [[{ device: 'a"\\\n' }, 1]]);
    assert.match(all.toString(), /^up\{device="a\\"\\\\\\n"\} 1$/m);
  });

  for (const wrong of [
    "",
    "hello",
    "x 1",
    "# HELP x X.\n# TYPE y gauge",
    "# HELP x X.\n# TYPE x gauge\ny 1",
    '# HELP x X.\n# TYPE x gauge\nx{a="1} 1',
    "# HELP x X.\n# TYPE x gauge\nx one",
    "# HELP x X.\n# TYPE x gauge\nx 1 2 3",
  ])
    test(`are none if they are ${JSON.stringify(wrong)}`, () =>
      assert.equal(parseExposition(wrong), undefined));
});

/** A daemon's control socket, as far as the exporter asks. */
async function standIn(path: string, text = TEXT): Promise<Server> {
  const server = createHttpServer((_, response) => response.end(text)).listen(path);
  await once(server, "listening");
  return server;
}

describe("an exporter", { timeout: 240_000 }, () => {
  let runtime: string;
  let port: number;
  let daemon: Vringd;
  let run: Run;
  const control = (name: string) => join(runtime, "vringd", `${name}.control`);
  const stopped: Server[] = [];
  let log = "";

  before(async () => {
    runtime = mkdtempSync(join(tmpdir(), "vringd-test-"));
    mkdirSync(join(runtime, "vringd/below"), { recursive: true });
    port = await freePort();
    daemon = await Vringd.start({ args: [`--control-socket=${control("vm1")}`] });
    run = startToolbox(["exporter", `--listen=127.0.0.1:${port}`, "--timeout=2"], {
      env: { XDG_RUNTIME_DIR: runtime },
    });
    run.child.stderr!.on("data", (part) => {
      log += part;
    });
    await untilReady(run);
  });
  after(async () => {
    run.child.kill();
    for (const server of stopped) server.close();
    await daemon[Symbol.asyncDispose]();
    rmSync(runtime, { recursive: true });
  });

  const scrape = async () => {
    const { status, text } = await askPort(port, "/metrics");
    assert.equal(status, 200);
    // The machine may run devices of its own.
    const up = [...text.matchAll(/^vringd_up\{device="([^"]+)"\} ([01])$/gm)].map(([, name, value]) => [
      name,
      value,
    ]);
    return { text, up: Object.fromEntries(up) as Record<string, string> };
  };

  test("gives a daemon's metrics with the labels of its device", async () => {
    await scrape();
    const frontEnd = await FrontEnd.connect(daemon.socketPath);
    await frontEnd.disk().read(0, 8);
    const { text, up } = await scrape();
    frontEnd.close();
    assert.equal(up.vm1, "1");
    assert.match(text, /^vringd_blk_info\{device="vm1",type="block",version="/m);
    assert.match(text, /^vringd_blk_requests_total\{device="vm1",type="block",queue="0",op="read"\} 1$/m);
    assert.match(text, /^process_resident_memory_bytes\{device="vm1",type="block"\} \d+$/m);
    assert.match(
      text,
      /^vringd_blk_request_duration_seconds_bucket\{device="vm1",type="block",queue="0",op="read",le=/m,
    );
  });

  test("passes promtool with two devices of a type", {
    skip: skipWithout(whyNoProgram("promtool")),
  }, async () => {
    const { text: own } = await ask(control("vm1"), "GET", "/v1/metrics");
    const twin = await standIn(control("vm2"), own);
    const { text } = await scrape();
    twin.close();
    assert.match(text, /^vringd_blk_size_bytes\{device="vm2",type="block"\} /m);
    const checked = spawnSync("promtool", ["check", "metrics"], { input: text, encoding: "utf8" });
    assert.deepEqual([checked.status, checked.stdout, checked.stderr], [0, "", ""]);
  });

  test("follows devices that come and go", async () => {
    const server = await standIn(control("guest"));
    assert.equal((await scrape()).up.guest, "1");
    await new Promise((resolve) => server.close(resolve));
    assert.ok(!existsSync(control("guest")));
    assert.equal((await scrape()).up.guest, undefined);
  });

  test("tells of one that hangs, is gone, or is none of ours, and of all others", async () => {
    const silent = createServer(() => {}).listen(control("silent"));
    await once(silent, "listening");
    stopped.push(silent);
    stopped.push(await standIn(control("stranger"), "hello"));
    const killed = await Vringd.start({ args: [`--control-socket=${control("killed")}`] });
    await killed.kill9();
    await killed[Symbol.asyncDispose]();
    const { up, text } = await scrape();
    assert.deepEqual([up.vm1, up.silent, up.stranger, up.killed], ["1", "0", "0", "0"]);
    assert.match(text, /^vringd_answer_seconds\{device="silent"\} [2-9]/m);
    await scrape();
    for (const [name, reason] of [
      ["silent", /no answer within 2 s/],
      ["stranger", /its metrics can't be read/],
      ["killed", /nobody listens there any more/],
    ] as const) {
      const lines = log.split("\n").filter((line) => line.includes(`device=${name} `));
      assert.equal(lines.length, 1, log);
      assert.match(lines[0]!, reason);
    }
    rmSync(control("killed"));
    stopped.push(await standIn(control("killed")));
    assert.equal((await scrape()).up.killed, "1");
    await until(() => /a device answers again {2}device=killed/.test(log), "the log says that it is back");
  });

  test("tells two of one name apart, as vringd ctl does", async () => {
    const below = join(runtime, "vringd/below/vm1.control");
    stopped.push(await standIn(below));
    const { up } = await scrape();
    assert.deepEqual([up.vm1, up[below]], ["1", "1"]);
  });

  test("answers at /metrics alone, and ends with status 0", async () => {
    assert.equal((await askPort(port, "/v1/quit")).status, 404);
    const refused = await toolbox(["exporter", `--listen=127.0.0.1:${port}`]);
    assert.deepEqual(
      [refused.status, refused.stderr],
      [1, `vringd: can't listen on 127.0.0.1:${port} for --listen: address already in use\n`],
    );
    run.child.kill("SIGTERM");
    assert.equal((await run.done).status, 0);
  });
});

test("an exporter at a Unix socket asks those that are named, and leaves no socket", {
  timeout: 180_000,
}, async () => {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  const device = await standIn(join(directory, "x.control"));
  const path = join(directory, "metrics.sock");
  const names = [join(directory, "x.control"), join(directory, "none.control")];
  const run = startToolbox(["exporter", `--listen=unix:${path}`, "--listen-mode=640", ...names]);
  try {
    await untilReady(run);
    assert.equal(statSync(path).mode & 0o777, 0o640);
    const { text } = await ask(path, "GET", "/metrics");
    assert.match(text, /^vringd_up\{device="x"\} 1\nvringd_up\{device="none"\} 0$/m);
  } finally {
    run.child.kill("SIGTERM");
    device.close();
  }
  assert.equal((await run.done).status, 0);
  assert.ok(!existsSync(path) && existsSync(dirname(path)));
  rmSync(directory, { recursive: true });
});
