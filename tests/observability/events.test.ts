// `GET /v1/events` and `vringd ctl SOCKET events`: what happens, as it happens.
import assert from "node:assert/strict";
import { readdirSync, readFileSync, truncateSync } from "node:fs";
import { type ClientRequest, request } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Ajv2020 } from "ajv/dist/2020.js";
import { BLK_CONFIG_WRITEBACK, VIRTIO_BLK_T_IN } from "../../assembly/spec/virtio-blk.ts";
import { AVAIL_IDX } from "../../assembly/spec/virtqueue.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { EVENT_NAMES, NAMED_SENTENCES } from "../../host/observability/event-names.ts";
import type { Event } from "../../host/observability/events.ts";
import openapi from "../../schema/control.openapi.json" with { type: "json" };
import { Observed } from "../support/observed.ts";
import { rawSplitRing } from "../support/raw-ring.ts";
import { startToolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const MIB = 1 << 20;
const LISTENERS_MAX = 8;
const HEARTBEAT_MS = 5000;
/** More events than fit in the socket and the daemon's backlog. */
const FLOOD = 6000;

const ajv = new Ajv2020({ strict: false, allErrors: true });
ajv.addSchema(openapi, "control");
const isEvent = ajv.compile({ $ref: "control#/components/schemas/Event" });

/** One who listens, and keeps what it hears. */
class Ear {
  text = "";
  status = 0;
  hasEnded = false;
  readonly sent: ClientRequest;

  constructor(socketPath: string, headers: Record<string, string> = {}) {
    this.sent = request({ socketPath, path: "/v1/events", headers, agent: false }, (response) => {
      this.status = response.statusCode!;
      response.setEncoding("utf8").on("data", (part) => {
        this.text += part;
      });
      response.on("end", () => {
        this.hasEnded = true;
      });
      response.on("error", () => {});
    });
    this.sent.on("error", () => {});
    this.sent.end();
  }

  static async open(socketPath: string, headers?: Record<string, string>): Promise<Ear> {
    const ear = new Ear(socketPath, headers);
    await until(() => ear.text !== "", "the stream begins");
    return ear;
  }

  get events(): Event[] {
    return [...this.text.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data!));
  }

  async hears(name: string): Promise<Event> {
    return until(() => this.events.find(({ event }) => event === name), `the event ${name} comes`);
  }

  [Symbol.dispose](): void {
    this.sent.destroy();
  }
}

describe("events", { timeout: 420_000 }, () => {
  test("tell who came, what broke and failed, which cache mode there is, who went, and the end", async () => {
    await using observed = await Observed.start({ args: ["--num-queues=1"] });
    const { daemon } = observed;
    using ear = await Ear.open(observed.controlSocket);
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    await frontEnd.disk().read(0, 1);
    await frontEnd.setConfig({ offset: BLK_CONFIG_WRITEBACK, flags: 0, bytes: Buffer.of(0) });
    await frontEnd.setConfig({ offset: BLK_CONFIG_WRITEBACK, flags: 0, bytes: Buffer.of(2) });
    truncateSync(daemon.imagePath, MIB);
    await frontEnd.disk().request({ type: VIRTIO_BLK_T_IN, sector: 4096, inLength: 512 });
    await ear.hears("io-error");
    const queue = frontEnd.queues[0]!;
    rawSplitRing(queue).avail[AVAIL_IDX / 2] = 0x7fff;
    queue.kick(true);
    await ear.hears("ring-broken");
    frontEnd.close();
    await ear.hears("front-end-left");
    await observed.ask("POST", "/v1/quit");
    assert.equal(await daemon.end(), 0);
    await until(() => ear.hasEnded, "the stream ends as HTTP has it");

    assert.deepEqual(
      ear.events.map(({ event }) => event),
      [
        "front-end-connected",
        "write-through",
        "front-end-fault",
        "io-error",
        "ring-broken",
        "front-end-left",
        "log",
        "stopping",
      ],
    );
    for (const event of ear.events) assert.ok(isEvent(event), JSON.stringify(isEvent.errors));
    const ids = ear.events.map(({ id }) => id);
    assert.deepEqual(
      ids,
      ids.map((_, i) => ids[0]! + i),
    );
    const { level, message, fields, time } = await ear.hears("io-error");
    assert.deepEqual([level, message], ["warn", "a read failed"]);
    assert.deepEqual([fields.errno, fields.sector, fields.file], ["EIO", 4096, daemon.imagePath]);
    assert.ok(Math.abs(Date.now() - time) < 600_000);
    // Each by the same name, number and data, in three lines.
    const frames = ear.text.split("\n\n").filter((frame) => !frame.startsWith(":") && frame !== "");
    for (const frame of frames) assert.match(frame, /^id: \d+\nevent: [a-z-]+\ndata: \{.*\}$/);
    // The log has the same sentences.
    for (const event of ear.events)
      assert.ok(
        daemon.log.some((line) => line.includes(event.message)),
        event.message,
      );
  });

  test("come whatever the log's level, and however many lines are left out of the log", async () => {
    await using observed = await Observed.start();
    await observed.ask("PUT", "/v1/log-level", '{"level":"error"}');
    using ear = await Ear.open(observed.controlSocket);
    const count = 50;
    for (let i = 0; i < count; i++) {
      await using frontEnd = await FrontEnd.open(observed.daemon.socketPath);
      await frontEnd.getFeatures();
    }
    const named = (name: string) => ear.events.filter(({ event }) => event === name).length;
    await until(() => named("front-end-left") === count, "all have left");
    assert.equal(named("front-end-connected"), count);
  });

  test("begin with those that whoever comes back has missed", async () => {
    await using observed = await Observed.start();
    const comeAndGo = async () => {
      await using frontEnd = await FrontEnd.open(observed.daemon.socketPath);
      await frontEnd.getFeatures();
    };
    let last: number;
    {
      using ear = await Ear.open(observed.controlSocket);
      await comeAndGo();
      last = (await ear.hears("front-end-left")).id;
    }
    await comeAndGo();
    using back = await Ear.open(observed.controlSocket, { "last-event-id": String(last) });
    await back.hears("front-end-left");
    assert.deepEqual(
      back.events.map(({ id }) => id),
      [last + 1, last + 2],
    );
    using stranger = await Ear.open(observed.controlSocket, { "last-event-id": "x" });
    await comeAndGo();
    await stranger.hears("front-end-left");
    assert.equal(stranger.events[0]!.id, last + 3);
    // Of a daemon before this one: all is new.
    using old = await Ear.open(observed.controlSocket, { "last-event-id": "4000000" });
    assert.equal((await old.hears("front-end-left")).id, last);
    assert.equal(old.events[0]!.id, 1);
  });

  test("are counted where they are too many to be kept for who comes back", async () => {
    await using observed = await Observed.start();
    for (let i = 0; i < 200; i++) {
      await using frontEnd = await FrontEnd.open(observed.daemon.socketPath);
      await frontEnd.getFeatures();
    }
    using back = await Ear.open(observed.controlSocket, { "last-event-id": "1" });
    const skipped = (await back.hears("skipped")) as unknown as { count: number };
    const first = await until(() => back.events.find(({ id }) => id !== undefined), "an event");
    assert.equal(skipped.count, first.id - 2);
  });

  test("have a heartbeat", async () => {
    await using observed = await Observed.start();
    using ear = await Ear.open(observed.controlSocket);
    const { length } = ear.text;
    await until(() => ear.text.length > length, "something comes", 10 * HEARTBEAT_MS);
    assert.match(ear.text.slice(length), /^: .+\n\n$/);
  });

  test("don't keep status from those who ask, however many listen", async () => {
    await using observed = await Observed.start();
    const ears = Array.from({ length: 3 * LISTENERS_MAX }, () => new Ear(observed.controlSocket));
    try {
      const of = (status: number) => ears.filter((ear) => ear.status === status).length;
      // What is beyond all connections is cut off unheard.
      await until(() => of(200) === LISTENERS_MAX, "as many as may listen");
      assert.equal((await observed.get("/v1/status")).pid, observed.daemon.pid);
      using one = new Ear(observed.controlSocket);
      await until(() => one.status === 503, "one more is refused");
      assert.match(one.text, /8 listen already/);
      assert.equal((await observed.ask("GET", "/v1/stats")).status, 200);
    } finally {
      for (const ear of ears) ear[Symbol.dispose]();
    }
    // There is room again.
    let status = 0;
    while (status !== 200) {
      using ear = new Ear(observed.controlSocket);
      status = await until(() => ear.status || undefined, "an answer");
    }
  });

  test("that nobody takes are skipped and counted, and take no memory", async () => {
    await using observed = await Observed.start();
    const slow = connect(observed.controlSocket);
    slow.on("error", () => {});
    slow.write("GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n");
    await new Promise((resolve) => slow.once("readable", resolve));
    await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath);
    for (let i = 0; i < FLOOD; i++) {
      await frontEnd.setConfig({ offset: BLK_CONFIG_WRITEBACK, flags: 0, bytes: Buffer.of(2) });
    }
    assert.equal((await observed.get("/v1/status")).pid, observed.daemon.pid);
    let text = "";
    slow.setEncoding("utf8").on("data", (part) => {
      text += part;
    });
    slow.resume();
    const [, count] = await until(
      () => /"event":"skipped","count":(\d+)/.exec(text) ?? undefined,
      "what was skipped",
      60_000,
    );
    slow.destroy();
    const told = [...text.matchAll(/"event":"front-end-fault"/g)].length;
    assert.ok(Number(count) > 1000, `${count} skipped, ${told} told`);
    assert.equal(Number(count) + told, FLOOD);
  });
});

test("each event that has a name is of a sentence that the host logs", () => {
  const host = fileURLToPath(new URL("../../host", import.meta.url));
  const sources = readdirSync(host, { recursive: true, encoding: "utf8" }).filter(
    (name) => name.endsWith(".ts") && !name.endsWith("event-names.ts"),
  );
  const text = sources.map((name) => readFileSync(join(host, name), "utf8")).join("\n");
  for (const sentence of NAMED_SENTENCES) assert.ok(text.includes(`"${sentence}"`), sentence);
});

test("the description of the control socket lists all names of events", () => {
  const { event } = openapi.components.schemas.Event.properties;
  assert.deepEqual(event.enum, EVENT_NAMES);
});

describe("vringd ctl SOCKET events", { timeout: 120_000 }, () => {
  /** Its output once it shows a front-end that has left. */
  async function listening(observed: Observed, ...args: string[]) {
    const run = startToolbox(["ctl", observed.controlSocket, "events", "--timeout=50", ...args]);
    let output = "";
    run.child.stdout!.on("data", (part) => {
      output += part;
    });
    while (!/front-end.left/.test(output)) {
      await using frontEnd = await FrontEnd.open(observed.daemon.socketPath);
      await frontEnd.getFeatures();
      frontEnd.close();
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return run;
  }

  test("prints a line an event, and ends when the daemon does", async () => {
    await using observed = await Observed.start();
    const run = await listening(observed);
    assert.equal(await observed.daemon.stop(), 0);
    const { status, stdout, stderr } = await run.done;
    assert.deepEqual([status, stderr], [0, ""]);
    const lines = stdout.trimEnd().split("\n");
    for (const line of lines) assert.match(line, /^\d\d:\d\d:\d\d (info {1}|warn {1}|error) /);
    assert.match(lines.at(-1)!, / stopping {2}signal=SIGTERM$/);
    assert.ok(lines.some((line) => / front-end left {2}reads=0 /.test(line)));
  });

  test("prints them as JSON, one a line", async () => {
    await using observed = await Observed.start();
    const run = await listening(observed, "--json");
    assert.equal(await observed.daemon.stop(), 0);
    const { status, stdout } = await run.done;
    assert.equal(status, 0);
    const events = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    for (const event of events) assert.ok(isEvent(event), JSON.stringify(isEvent.errors));
    assert.equal(events.at(-1).event, "stopping");
  });

  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    test(`ends with status 0 on ${signal}, and the daemon goes on`, async () => {
      await using observed = await Observed.start();
      const run = await listening(observed);
      run.child.kill(signal);
      const { status, stderr } = await run.done;
      assert.deepEqual([status, stderr], [0, ""]);
      assert.equal((await observed.get("/v1/status")).pid, observed.daemon.pid);
    });
  }

  test("says so, in one sentence, when the daemon breaks off", async () => {
    await using observed = await Observed.start();
    const run = await listening(observed);
    await observed.daemon.kill9();
    const { status, stderr } = await run.done;
    assert.equal(status, 1);
    assert.match(stderr, /^vringd: \S+: the daemon broke off\n$/);
  });

  test("is refused as other questions are where nobody listens, or something else does", async () => {
    const nobody = await startToolbox(["ctl", "/nonexistent/x.control", "events"]).done;
    assert.deepEqual(nobody, {
      status: 1,
      stdout: "",
      stderr: "vringd: /nonexistent/x.control: there is no such socket\n",
    });
    await using daemon = await Vringd.start();
    const other = await startToolbox(["ctl", daemon.socketPath, "events", "--timeout=5"]).done;
    assert.equal(other.status, 1);
    assert.match(other.stderr, /^vringd: .*\n$/);
  });
});
