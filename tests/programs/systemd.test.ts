// The systemd units that come along: sound, tight, and not too tight.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { VIRTIO_GPIO_MSG_GET_VALUE } from "../../assembly/spec/virtio-gpio.ts";
import { GPU_DISPLAY_INFO_SIZE } from "../../assembly/spec/virtio-gpu.ts";
import { VIRTIO_I2C_F_ZERO_LENGTH_REQUEST } from "../../assembly/spec/virtio-i2c.ts";
import { allPrograms } from "../../host/devices/index.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { ChainDriver, connectDevice } from "../support/chain-driver.ts";
import { freePort } from "../support/free-port.ts";
import { whyNoLimitedUser } from "../support/limited-user.ts";
import { MixedLoad } from "../support/mixed-load.ts";
import { askPort, Observed } from "../support/observed.ts";
import { tellSeed } from "../support/random.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { straceTo, traceLines, whyNoStrace } from "../support/strace.ts";
import { startToolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";
import { PROGRAM, Vringd } from "../support/vringd.ts";

const BUILD = dirname(PROGRAM);
const names = (await allPrograms()).map(({ name }) => name);

/** In tenths, as systemd-analyze takes it: 0 is best, 100 worst, and what it calls safe ends at 20. */
const EXPOSURE_MAX = 10;
/** It has a port, and passes by the rights of others' sockets. */
const EXPORTER_EXPOSURE_MAX = 15;

function analyze(...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync("systemd-analyze", args, { encoding: "utf8" });
  return { status, output: stdout + stderr };
}

describe("the systemd units", { skip: skipWithout(whyNoProgram("systemd-analyze")) }, () => {
  let directory: string;
  const serviceOf = (name: string) => join(directory, `${name}@.service`);

  before(() => {
    directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
    cpSync(join(BUILD, "systemd"), directory, { recursive: true });
    for (const name of names) {
      // The program lies elsewhere here, and must be there.
      const text = readFileSync(serviceOf(name), "utf8");
      const here = `ExecStart=${process.execPath} ${join(BUILD, name)}.mjs `;
      writeFileSync(serviceOf(name), text.replace(`ExecStart=${name} `, here));
    }
  });
  after(() => rmSync(directory, { recursive: true }));

  for (const name of names) {
    test(`of ${name} are understood as a whole`, () => {
      const { status, output } = analyze("verify", serviceOf(name), join(directory, `${name}@.socket`));
      // About other units of the machine it may complain as it likes.
      const complaints = output.split("\n").filter((line) => line.includes("vringd"));
      assert.deepEqual([status, complaints], [0, []]);
    });

    test(`of ${name} leave little exposed`, (t) => {
      const { status, output } = analyze(
        "security",
        "--offline=true",
        `--threshold=${EXPOSURE_MAX}`,
        "--no-pager",
        serviceOf(name),
      );
      t.diagnostic(/Overall exposure level[^\n]*: \S+ \S+/.exec(output)?.[0] ?? output);
      assert.equal(status, 0, output);
    });
  }

  describe("the exporter's", () => {
    const unit = () => join(directory, "vringd-exporter.service");

    before(() => {
      const text = readFileSync(unit(), "utf8");
      const here = `ExecStart=${process.execPath} ${join(BUILD, "vringd.mjs")} exporter `;
      writeFileSync(unit(), text.replace("ExecStart=vringd exporter ", here));
    });

    test("is understood as a whole, and leaves little exposed", () => {
      const { status, output } = analyze("verify", unit());
      assert.deepEqual([status, output.split("\n").filter((line) => line.includes("vringd"))], [0, []]);
      const offline = ["--offline=true", `--threshold=${EXPORTER_EXPOSURE_MAX}`, "--no-pager"];
      const security = analyze("security", ...offline, unit());
      assert.equal(security.status, 0, security.output);
    });

    test("forbids no system call that it makes, and lets it ask another user's daemon", {
      skip: skipWithout(whyNoStrace(), whyNoLimitedUser()),
    }, async () => {
      const text = readFileSync(unit(), "utf8");
      const trace = join(directory, "trace-exporter");
      await using observed = await Observed.start();
      const port = await freePort();
      const nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"];
      const [capability] = /(?<=^AmbientCapabilities=CAP_)\w+$/m.exec(text)!;
      const may = ["inh-caps", "ambient-caps", "bounding-set"].map(
        (set) => `--${set}=-all,+${capability.toLowerCase()}`,
      );
      const under = [
        "env",
        "NOTIFY_SOCKET=/run/systemd/notify",
        "setpriv",
        ...nobody,
        ...may,
        ...straceTo(trace),
      ];
      const run = startToolbox(["exporter", `--listen=127.0.0.1:${port}`, observed.controlSocket], { under });
      const { text: metrics } = await until(
        () => askPort(port, "/metrics").catch(() => undefined),
        "the exporter answers",
      );
      assert.match(metrics, /^vringd_up\{device="disk"\} 1$/m);
      run.child.kill("SIGTERM");
      assert.equal((await run.done).status, 0);
      assertAllowed(trace, forbiddenCalls(text));
    });
  });

  test("of different devices share no file, though their instances have one name", () => {
    const owners = new Map<string, string>();
    for (const unit of readdirSync(directory).filter((name) => /@\.(service|socket)$/.test(name))) {
      const text = readFileSync(join(directory, unit), "utf8").replace(/^#.*$/gm, "");
      const files = text.match(/(?<=[=:])(%t|\/)?[\w/-]*%i[\w./-]*/g) ?? [];
      assert.ok(files.length > 0, unit);
      for (const file of files.filter((file) => !file.includes("@"))) {
        const program = unit.slice(0, unit.indexOf("@"));
        assert.equal(owners.get(file) ?? program, program, file);
        owners.set(file, program);
      }
    }
  });

  for (const engine of ["io_uring", "threads"]) {
    test(`forbid no system call that the daemon makes, with ${engine}`, {
      skip: skipWithout(whyNoStrace()),
    }, async (t) => {
      const forbidden = forbiddenCalls(readFileSync(serviceOf("vringd-blk"), "utf8"));
      const trace = join(directory, `trace-${engine}`);
      const args = [`--engine=${engine}`, "--direct"];
      const under = ["env", "NOTIFY_SOCKET=/run/systemd/notify", ...straceTo(trace)];
      await using observed = await Observed.start({ args, onDisk: true, under });
      const { daemon } = observed;
      for (const path of ["status", "stats", "metrics"]) await observed.ask("GET", `/v1/${path}`);
      const frontEnd = await FrontEnd.connect(daemon.socketPath, { inflight: true });
      const load = { count: 200, depth: 8, firstSector: 0, sectors: 4096, indirect: true };
      await MixedLoad.run(frontEnd.disk(), { random: tellSeed(t), ...load });
      frontEnd.close();
      assert.equal(await daemon.stop(), 0);
      assertAllowed(trace, forbidden);
    });
  }

  const others: Readonly<Record<string, Other>> = {
    "vringd-rng": { args: () => [], queue: 0, readable: [], room: [64] },
    "vringd-i2c": {
      args: (directory) => [`--emulate=at24:0x50,file=${join(directory, "eeprom")},size=256`],
      bits: [VIRTIO_I2C_F_ZERO_LENGTH_REQUEST],
      queue: 0,
      readable: [Buffer.from("a00000000000000000", "hex")],
      room: [1],
    },
    "vringd-gpio": {
      args: () => ["--lines=led,button"],
      queue: 0,
      readable: [Buffer.of(VIRTIO_GPIO_MSG_GET_VALUE, 0, 0, 0, 0, 0, 0, 0)],
      room: [2],
    },
    "vringd-gpu": {
      args: () => [],
      queue: 0,
      readable: [Buffer.concat([Buffer.of(0, 1), Buffer.alloc(22)])],
      room: [GPU_DISPLAY_INFO_SIZE],
    },
    "vringd-input": {
      args: () => ["--keyboard"],
      queue: 1,
      readable: [Buffer.from([0x11, 0, 1, 0, 1, 0, 0, 0])],
      room: [],
    },
    "vringd-console": {
      args: (directory) => [
        `--port=console=pty:${join(directory, "pty")}`,
        `--port=agent=unix:${join(directory, "agent")}`,
      ],
      queue: 1,
      readable: [Buffer.from("typed")],
      room: [],
    },
    "vringd-vsock": {
      args: (directory: string) => [`--uds-path=${join(directory, "uds")}`],
      queue: 1,
      readable: [Buffer.alloc(44)],
      room: [],
    },
  };

  for (const [name, { args, bits = [], queue, readable, room }] of Object.entries(others)) {
    test(`forbid no system call that ${name} makes`, { skip: skipWithout(whyNoStrace()) }, async () => {
      const trace = join(directory, `trace-${name}`);
      await using daemon = await Vringd.start({
        program: [process.execPath, join(BUILD, `${name}.mjs`)],
        deviceArgs: args,
        under: ["env", "NOTIFY_SOCKET=/run/systemd/notify", ...straceTo(trace)],
      });
      const frontEnd = await connectDevice(daemon.socketPath, { bits, queues: queue + 1, queueSize: 16 });
      await new ChainDriver(frontEnd, queue).exchange(readable, room);
      frontEnd.close();
      assert.equal(await daemon.stop(), 0);
      assertAllowed(trace, forbiddenCalls(readFileSync(serviceOf(name), "utf8")));
    });
  }
});

function assertAllowed(trace: string, forbidden: (call: string) => boolean): void {
  const made = new Set(traceLines(trace).map((line) => /^\d+ +(\w+)\(/.exec(line)?.[1]));
  assert.ok(made.has("bind") && made.has("mmap"));
  assert.deepEqual(
    [...made].filter((call) => call !== undefined && forbidden(call)),
    [],
  );
}

/** A device's program, and a chain of its driver's, who has accepted these bits. */
interface Other {
  args(directory: string): string[];
  bits?: number[];
  queue: number;
  readable: Buffer[];
  room: number[];
}

/** Whether a system call is refused by the unit's filters: not in the first, or in the second, which begins with "~". */
function forbiddenCalls(unit: string): (call: string) => boolean {
  const filters = [...unit.matchAll(/^SystemCallFilter=(~?)(.*)$/gm)];
  const allowed = callsOf(filters.filter(([, not]) => not === "").map(([, , list]) => list!));
  const denied = callsOf(filters.filter(([, not]) => not === "~").map(([, , list]) => list!));
  assert.ok(allowed.has("read") && denied.has("setuid"));
  return (call) => !allowed.has(call) || denied.has(call);
}

function callsOf(lists: readonly string[]): Set<string> {
  const calls = new Set<string>();
  for (const name of lists.flatMap((list) => list.split(" "))) {
    if (!name.startsWith("@")) calls.add(name);
    else for (const call of groupOf(name)) calls.add(call);
  }
  return calls;
}

/** Groups may be of groups. */
function groupOf(group: string): string[] {
  const lines = analyze("syscall-filter", group).output.split("\n").slice(1);
  const names = lines.map((line) => line.trim()).filter((name) => /^@?\w+[\w-]*$/.test(name));
  return names.flatMap((name) => (name.startsWith("@") ? groupOf(name) : [name]));
}
