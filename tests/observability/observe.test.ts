// `vringd ctl` and `vringd top`, as their users call them.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import type { Status } from "../../host/observability/status.ts";
import { statsLines } from "../../host/toolbox/ctl/stats.ts";
import { statusLines } from "../../host/toolbox/ctl/status.ts";
import type { QueueRates } from "../../host/toolbox/top/rates.ts";
import { viewLines } from "../../host/toolbox/top/view.ts";
import { formatMib, formatSpan } from "../../host/toolbox/units.ts";
import manifest from "../../package.json" with { type: "json" };
import { Observed } from "../support/observed.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { toolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";
import { PROGRAM, Vringd } from "../support/vringd.ts";

const TOOLBOX = join(dirname(PROGRAM), "vringd.mjs");
const USAGE = 2;

const CSI = "\x1b[";
/** The cursor is back, and what was on the terminal before. */
const LEFT = `${CSI}?25h${CSI}?1049l`;

interface Run {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** A busy machine may take longer than people like to wait. */
function withPatience(args: readonly string[]): string[] {
  return args.some((arg) => arg.startsWith("--timeout=")) ? [...args] : [...args, "--timeout=50"];
}

/** Asynchronously: what it asks for may be served by this process. */
function run(args: readonly string[], environment: Record<string, string> = {}): Promise<Run> {
  const env = { ...process.env, XDG_RUNTIME_DIR: "/nonexistent", ...environment };
  const child = spawn(process.execPath, [TOOLBOX, ...withPatience(args)], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 60_000,
  });
  const text = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (part: string) => {
      text[name] += part;
    });
  }
  return new Promise((resolve) => child.once("close", (status) => resolve({ status, ...text })));
}

test("a daemon makes the directory in which the toolbox finds it", async () => {
  const runtime = mkdtempSync(join(tmpdir(), "vringd-test-"));
  const env = { XDG_RUNTIME_DIR: runtime };
  try {
    await using _ = await Vringd.start({ env, args: [`--control-socket=${runtime}/vringd/vm1.control`] });
    const { status, stdout } = await run(["ctl", "vm1", "status"], env);
    assert.equal(status, 0);
    assert.match(stdout, /vringd-blk/);
  } finally {
    rmSync(runtime, { recursive: true });
  }
});

describe("the toolbox and a running daemon", { timeout: 240_000 }, () => {
  let runtime: string;
  let socket: string;
  let daemon: Vringd;
  let frontEnd: FrontEnd;
  const environment = () => ({ XDG_RUNTIME_DIR: runtime });

  before(async () => {
    runtime = mkdtempSync(join(tmpdir(), "vringd-test-"));
    mkdirSync(join(runtime, "vringd/vm1"), { recursive: true });
    socket = join(runtime, "vringd/vm1/vm1.control");
    daemon = await Vringd.start({ args: [`--control-socket=${socket}`, "--num-queues=2"] });
    frontEnd = await FrontEnd.connect(daemon.socketPath);
    await frontEnd.disk().read(0, 8);
  });
  after(async () => {
    frontEnd.close();
    await daemon[Symbol.asyncDispose]();
    rmSync(runtime, { recursive: true });
  });

  test("ctl says what runs, for people and as JSON", async () => {
    const { status, stdout } = await run(["ctl", socket, "status"]);
    assert.equal(status, 0);
    assert.match(stdout, new RegExp(`process ${daemon.pid}, up`));
    assert.match(stdout, /^front-end +connected at .*blk\.sock for /m);
    assert.match(stdout, /^rings +1 running, 1 stopped$/m);
    assert.match(stdout, /^ +0 {2}running +128 {2}split /m);
    const asJson = await run(["ctl", "--json", socket, "status"]);
    assert.equal(JSON.parse(asJson.stdout).pid, daemon.pid);
  });

  test("ctl finds a disk by its name", async () => {
    const { status, stdout } = await run(["ctl", "vm1", "status", "--json"], environment());
    assert.deepEqual([status, JSON.parse(stdout).pid], [0, daemon.pid]);
  });

  test("ctl says what was done", async () => {
    await run(["ctl", socket, "stats"]);
    await frontEnd.disk().read(0, 8);
    const { status, stdout } = await run(["ctl", socket, "stats"]);
    assert.equal(status, 0);
    assert.match(stdout, /^QUEUE {2}OPERATION +REQUESTS +DATA +MEAN +P50 +P99 +P99\.9 +TIMED$/m);
    assert.match(stdout, /^ +0 {2}read +\d+ +\S+ KiB .*(us|ms)/m);
  });

  test("ctl changes what is logged", async () => {
    assert.equal((await run(["ctl", socket, "log-level", "debug"])).status, 0);
    assert.equal(JSON.parse((await run(["ctl", socket, "status", "--json"])).stdout).logLevel, "debug");
    const { status, stderr } = await run(["ctl", socket, "log-level", "loud"]);
    assert.equal(status, 1);
    assert.match(stderr, /^vringd: .*the body must be \{"level": one of error, warn, info, debug\}\n$/);
  });

  test("ctl lists the commands of a disk, and refuses others", async () => {
    const { status, stdout } = await run(["ctl", socket, "commands"]);
    assert.equal(status, 0);
    assert.match(stdout, /^resize .*\nlimits .*\nbackup .*\n$/);
    const { status: refused, stderr } = await run(["ctl", socket, "dance"]);
    assert.equal(refused, 1);
    assert.match(stderr, /^vringd: [^\n]*there is no command "dance"[^\n]*\n$/);
  });

  test("ls has a line for each daemon, and says why where there is none", async () => {
    const found = await run(["ls"], environment());
    assert.deepEqual([found.status, found.stderr], [0, ""]);
    const [head, line] = found.stdout.split("\n");
    assert.match(head!, /^DEVICE +TYPE +PROCESS +UP +FRONT-END +RINGS +SIZE +WHAT$/);
    assert.match(line!, /^vm1 +block +\d+ +\d+ s +connected +1 +64 MiB +\S+$/);
    const named = await run(["ls", "--json", socket, "/nonexistent.control"]);
    const [known, unknown] = JSON.parse(named.stdout);
    assert.deepEqual([named.status, known.device, known.status.rings.length], [0, "vm1", 2]);
    assert.match(unknown.problem, /there is no such socket/);
    const none = await run(["ls"], { XDG_RUNTIME_DIR: "/nonexistent" });
    assert.equal(none.status, 1);
    assert.match(none.stderr, /^vringd: no control socket in /);
  });

  test("top prints one interval's numbers where there is no terminal", async () => {
    const working = keepReading();
    const { status, stdout, stderr } = await run(["top"], environment());
    await working.stop();
    assert.deepEqual([status, stderr], [0, ""]);
    const [head, all, first] = stdout.split("\n");
    assert.match(head!, /^DEVICE +QUEUE +IOPS +MiB\/s +P50 +P99 +FLIGHT +POLLS /);
    assert.match(all!, /^vm1 +all +[1-9][\d.]*k? /);
    assert.match(first!, /^ +0 +[1-9][\d.]*k? /);
  });

  test("top prints JSON", async () => {
    const working = keepReading();
    const { status, stdout } = await run(["top", "--json", socket]);
    await working.stop();
    const [{ device, rates }] = JSON.parse(stdout) as [{ device: string; rates: QueueRates[] }];
    assert.deepEqual([status, device, rates.length], [0, "vm1", 2]);
    assert.ok(rates[0]!.read.requests > 0 && rates[0]!.read.p50Ns! > 0);
    assert.equal(rates[1]!.queue, 0);
  });

  test("top goes on with those that answer", async () => {
    const { status, stdout, stderr } = await run(["top", "--once", socket, "/nonexistent.control"]);
    assert.equal(status, 0);
    assert.match(stdout, /^vm1 /m);
    assert.match(stderr, /^vringd: \/nonexistent\.control: there is no such socket\n$/);
  });

  test("top draws on a terminal, in 80 columns, until q is pressed", {
    skip: skipWithout(whyNoProgram("script")),
  }, async () => {
    const screen = new Terminal(
      `stty cols 80 rows 20; exec ${process.execPath} ${TOOLBOX} top --timeout=50`,
      environment(),
    );
    await until(() => /vm1[^\r\n]*all/.test(screen.output), "a frame is drawn", 40_000);
    screen.press("q");
    assert.equal(await screen.ended, 0);
    assert.ok(screen.output.includes("\x1b[?1049h") && screen.output.includes("\x1b[?25l"));
    assert.ok(screen.output.trimEnd().endsWith(LEFT));
    // That would flicker.
    assert.ok(!screen.output.includes("\x1b[2J"));
    const frames = screen.output.split(`${CSI}H`);
    for (const line of frames.flatMap((frame) => plain(frame).split(/\r?\n/)))
      assert.ok(line.length <= 80, `${line.length}: ${JSON.stringify(line)}`);
  });

  test("top leaves the terminal as it was when a signal ends it", {
    skip: skipWithout(whyNoProgram("script")),
  }, async () => {
    const command = `stty cols 80 rows 20; echo $$; exec ${process.execPath} ${TOOLBOX} top --timeout=50`;
    const screen = new Terminal(command, environment());
    await until(() => /vm1[^\r\n]*all/.test(screen.output), "a frame is drawn", 40_000);
    process.kill(Number(/^\s*(\d+)/.exec(screen.output)![1]), "SIGTERM");
    await screen.ended;
    assert.ok(screen.output.includes(LEFT));
  });

  test("NO_COLOR is heeded", { skip: skipWithout(whyNoProgram("script")) }, async () => {
    const command = `stty cols 80 rows 20; exec ${process.execPath} ${TOOLBOX} top --once --timeout=50`;
    const coloured = new Terminal(command, environment());
    await coloured.ended;
    const plainly = new Terminal(command, { ...environment(), NO_COLOR: "1" });
    await plainly.ended;
    assert.ok(coloured.output.includes(`${CSI}1m`), coloured.output);
    assert.ok(!plainly.output.includes(CSI));
  });

  function keepReading(): { stop(): Promise<void> } {
    let isOn = true;
    const work = (async () => {
      while (isOn) await frontEnd.disk().read(0, 8);
    })();
    return {
      stop: () => {
        isOn = false;
        return work;
      },
    };
  }
});

/** A terminal of its own for a shell command, by script(1). */
class Terminal {
  output = "";
  readonly ended: Promise<number | null>;
  private readonly child;

  constructor(command: string, environment: Record<string, string>) {
    // Node gives no colour to what runs in CI either.
    const { NO_COLOR: _, CI: __, ...inherited } = process.env;
    this.child = spawn("script", ["-qefc", command, "/dev/null"], {
      env: { ...inherited, TERM: "xterm-256color", ...environment },
      stdio: ["pipe", "pipe", "ignore"],
      timeout: 60_000,
    });
    this.child.stdout.setEncoding("utf8").on("data", (part: string) => {
      this.output += part;
    });
    this.ended = new Promise((resolve) => this.child.once("close", resolve));
  }

  press(key: string): void {
    this.child.stdin.write(key);
  }
}

/** Text without its commands to the terminal. */
function plain(text: string): string {
  return text
    .split(CSI)
    .map((part, at) => (at === 0 ? part : part.replace(/^[?\d;]*[a-zA-Z]/, "")))
    .join("");
}

test("ctl ends a daemon", { timeout: 60_000 }, async () => {
  await using observed = await Observed.start();
  const { status, stdout } = await run(["ctl", observed.controlSocket, "quit"]);
  assert.deepEqual([status, stdout], [0, "It is stopping.\n"]);
  assert.equal(await observed.daemon.end(), 0);
});

describe("a socket that is none of ours", { timeout: 120_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  after(() => rmSync(directory, { recursive: true }));

  const PEERS: [string, (socket: import("node:net").Socket) => void, RegExp][] = [
    ["never answers", () => {}, /no answer within 2 s/],
    [
      "sends a byte now and then",
      (socket) => void setInterval(() => socket.write("x"), 200).unref(),
      /does not speak HTTP/,
    ],
    ["hangs up", (socket) => socket.destroy(), /it hung up/],
    ["isn't one of HTTP", (socket) => void socket.write("220 mail\r\n"), /does not speak HTTP/],
    [
      "speaks of something else",
      (socket) => void socket.end("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"),
      /is no control socket/,
    ],
  ];
  for (const [what, behave, complaint] of PEERS) {
    test(`that ${what} is complained of`, async () => {
      const path = join(directory, "peer.control");
      const sockets = new Set<import("node:net").Socket>();
      const server = createServer((socket) => {
        sockets.add(socket.on("error", () => {}));
        behave(socket);
      });
      await new Promise<void>((resolve) => server.listen(path, resolve));
      try {
        for (const args of [
          ["ctl", path, "status", "--timeout=2"],
          ["top", "--once", path, "--timeout=2"],
        ]) {
          const { status, stderr } = await run(args);
          assert.equal(status, 1);
          assert.match(stderr, complaint);
        }
      } finally {
        for (const socket of sockets) socket.destroy();
        server.close();
      }
    });
  }
});

describe("what other programs take as words", { timeout: 120_000 }, () => {
  test("shows the help of a subcommand, and the version", async () => {
    const { stdout } = await run(["backends", "list", "--help"], {});
    assert.match(stdout, /^Usage: vringd backends list /);
    assert.equal((await toolbox(["help", "backends", "list"])).stdout, stdout);
    assert.match((await toolbox(["help"])).stdout, /^Usage: vringd \[options\] \[command\]\n/);
    for (const word of ["version", "-V"])
      assert.equal((await toolbox([word])).stdout, `${manifest.version}\n`);
  });

  test("knows no help for what there isn't", async () => {
    const { status, stderr } = await toolbox(["help", "probee"]);
    assert.deepEqual(
      [status, stderr],
      [USAGE, "vringd: unknown command 'probee' (Did you mean probe?) (see --help)\n"],
    );
  });
});

describe("a wrong call", { timeout: 120_000 }, () => {
  for (const [args, complaint] of [
    [["ctl"], /missing required argument 'SOCKET'/],
    [["ctl", "x"], /missing required argument 'COMMAND'/],
    [["ctl", "x", "log-level"], /log-level takes a level/],
    [["ctl", "x", "log-level", "info", "debug"], /log-level takes a level/],
    [["ctl", "x", "quit", "now"], /quit takes no more/],
    [["top", "--interval=0"], /--interval takes a whole number from 1 to 60/],
  ] as [string[], RegExp][]) {
    test(`of vringd ${args.join(" ")} is answered with a sentence and status 2`, async () => {
      const { status, stdout, stderr } = await run(args);
      assert.deepEqual([status, stdout], [USAGE, ""]);
      assert.match(stderr, complaint);
    });
  }

  test("of a socket that isn't there has status 1", async () => {
    const { status, stderr } = await run(["ctl", "/nonexistent.control", "status"]);
    assert.deepEqual([status, stderr], [1, "vringd: /nonexistent.control: there is no such socket\n"]);
  });

  test("of a file that is no socket says so", async () => {
    const { status, stderr } = await run(["ctl", TOOLBOX, "status"]);
    assert.deepEqual([status, stderr], [1, `vringd: ${TOOLBOX}: this is no socket\n`]);
  });

  test("of top where nothing runs says where it has looked", async () => {
    const { status, stderr } = await run(["top"], { XDG_RUNTIME_DIR: "/nonexistent" });
    // The machine may run disks of its own.
    if (status === 1) assert.match(stderr, /no control socket in \/nonexistent\/vringd or \/run\/vringd/);
  });
});

describe("a view", () => {
  const rate = { requests: 123_456, bytes: 5e8, p50Ns: 2500, p99Ns: 12_000_000 };
  const rates = {
    state: "running",
    all: rate,
    read: rate,
    write: rate,
    other: rate,
    inFlight: 32,
    failures: 0,
    kicks: 1,
    calls: 1,
  };
  const looks = [
    {
      device: "a-disk-with-a-very-long-name",
      socket: "x",
      rates: [
        { ...rates, queue: undefined, pollsPaid: 0.97 },
        { ...rates, queue: 0, pollsPaid: null },
        { ...rates, queue: 15, state: "broken", pollsPaid: null },
      ],
      watched: {
        led: "out 1",
        button: "in 0 (rising, armed)",
        "the long name of a line": "in 1 (both, masked)",
      },
    },
    { device: "b", socket: "/run/vringd/b.control", problem: "/run/vringd/b.control: no answer within 2 s" },
  ];

  for (const width of [60, 80, 120, 200]) {
    test(`fits ${width} columns`, () => {
      const lines = viewLines(looks, width);
      for (const line of lines) assert.ok(line.length <= width, line);
      assert.match(lines[1]!, /^a-disk-w.* all +123k +477 +2\.5 us +12 ms +32/);
      if (width >= 80) assert.match(lines[1]!, / 32 +97 %/);
      assert.match(lines[3]!, /^ +15 +broken +- +- +- /);
      assert.match(lines[4]!, /^ {2}led out 1, button in 0 \(rising, armed\), the/);
      assert.equal(lines.at(-1), "/run/vringd/b.control: no answer within 2 s");
    });
  }
});

describe("a table", () => {
  const latency = {
    count: 123_456_789,
    sumNs: 1e12,
    p50Ns: 12_345,
    p90Ns: 23_456,
    p99Ns: 999_999,
    p999Ns: 1.2e7,
    buckets: [],
  };
  const queue = {
    index: 255,
    state: "running" as const,
    inFlight: 1024,
    operations: { writeZeroes: { requests: 123_456_789, bytes: 2 ** 50, latency } },
    failures: 1,
    kicks: 1e9,
    calls: 1e9,
  };
  const worker = { index: 12, turns: 1e12, sleeps: 1e9, pollsPaid: 1e9, pollsInVain: 1e9 };
  const stats = { uptimeSeconds: 1e6, wasTimed: false, brokenRings: 1e6, queues: [queue], workers: [worker] };
  const ring = { index: 255, size: 32768, format: "packed" as const, eventIdx: true, inFlight: 1024 };
  const frontEnd = { connectedSeconds: 1, features: ["VIRTIO_CONSOLE_F_SIZE"], protocolFeatures: [] };
  const status: Status = {
    program: "vringd-console",
    device: "console",
    version: "0.1.0",
    pid: 4194304,
    uptimeSeconds: 1e6,
    engine: "chains",
    threads: 1,
    logLevel: "info",
    entrance: { socketPath: "/run/user/1000/vringd/console-of-a-guest.sock" },
    frontEnd: { ...frontEnd, served: true },
    frontEnds: [
      { ...frontEnd, served: true },
      { ...frontEnd, served: false },
    ],
    rings: [
      { ...ring, state: "running", brokenBecause: null },
      { ...ring, state: "broken", brokenBecause: "an indirect table's length is not a multiple of 16, or 0" },
    ],
  };
  for (const width of [60, 80, 200]) {
    test(`of ctl fits ${width} columns`, () => {
      const lines = [...statsLines(stats, width), ...statusLines(status, width)];
      for (const line of lines) assert.ok(line.length <= width, line);
      assert.ok(lines.some((line) => / zero +123456789 +1 PiB /.test(line)));
      assert.ok(lines.some((line) => /^ 255 {2}broken +32768 {2}packed .*an indirect tabl/.test(line)));
    });
  }
});

describe("units", () => {
  test("of data", () => {
    assert.deepEqual([0, 2 ** 19, 2 ** 30].map(formatMib), ["0", "0.5", "1024"]);
  });
  test("of spans", () => {
    assert.deepEqual([0, 59.9, 61, 3600, 90_000].map(formatSpan), [
      "0 s",
      "59 s",
      "1 min 1 s",
      "1 h",
      "1 d 1 h",
    ]);
  });
});
