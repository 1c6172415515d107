// Who may connect: groups, modes and abstract names of the sockets that the daemon makes.
import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { request } from "node:http";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { close } from "../../host/linux/libc.ts";
import { connectUnix, listenUnix } from "../../host/linux/unix-socket.ts";
import { reachableProgram } from "../support/reachable-program.ts";
import { skipWithout } from "../support/skip.ts";
import { straceTo, traceLines, whyNoStrace } from "../support/strace.ts";
import { toolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
after(() => rmSync(directory, { recursive: true }));

const isRoot = process.getuid!() === 0;
const needsRoot = isRoot ? false : "only root may act as another user";
const NOBODY = 65534;
/** A group that this process may give files to, by name and number. */
const [GROUP, GID] = groupOf(isRoot ? "daemon" : String(process.getgid!()));

let count = 0;
const newPath = (ending: string) => join(directory, `${count++}.${ending}`);
const newName = () => `@vringd-test-${process.pid}-${count++}`;

function groupOf(nameOrNumber: string): [string, number] {
  const line = readFileSync("/etc/group", "utf8")
    .split("\n")
    .map((each) => each.split(":"))
    .find(([name, , number]) => name === nameOrNumber || number === nameOrNumber)!;
  return [line[0]!, Number(line[2])];
}

const modeOf = (path: string) => statSync(path).mode & 0o777;

/** A socket remembers who connected it, or had it listen. */
function asNobody<T>(action: () => T): T {
  process.seteuid!(NOBODY);
  try {
    return action();
  } finally {
    process.seteuid!(0);
  }
}

/** What a daemon answers to bytes of another user's, until it hangs up. */
async function answerToNobody(name: string, bytes = ""): Promise<string> {
  const socket = new Socket({ fd: asNobody(() => connectUnix(name)) });
  let answer = "";
  socket.on("data", (part) => {
    answer += part;
  });
  // What is left unread resets the connection.
  socket.on("error", () => {});
  if (bytes !== "") socket.write(bytes);
  await new Promise((resolve) => socket.once("close", resolve));
  return answer;
}

describe("a socket's group and mode", { timeout: 120_000 }, () => {
  const cases: [args: string[], mode: number, gid: number][] = [
    [["--socket-mode=600"], 0o600, process.getgid!()],
    [["--socket-mode=0666"], 0o666, process.getgid!()],
    [[`--socket-group=${GROUP}`], 0o660, GID],
    [[`--socket-group=${GID}`, "--socket-mode=620"], 0o620, GID],
  ];
  for (const [args, mode, gid] of cases) {
    test(`are those of ${args.join(" ")}, whatever the umask`, async () => {
      await using daemon = await Vringd.start({ args, under: ["sh", "-c", 'umask 777; exec "$@"', "sh"] });
      assert.equal(modeOf(daemon.socketPath), mode);
      assert.equal(statSync(daemon.socketPath).gid, gid);
      if (isRoot) await (await FrontEnd.connect(daemon.socketPath)).close();
    });
  }

  test("are there before anybody can connect", { skip: skipWithout(whyNoStrace()) }, async () => {
    const trace = newPath("trace");
    const args = [`--socket-group=${GROUP}`, "--socket-mode=660"];
    await using daemon = await Vringd.start({
      args,
      under: straceTo(trace, "-e", "trace=bind,listen,chmod,chown,fchmod,fchmodat,fchownat,lchown"),
    });
    assert.equal(await daemon.stop(), 0);
    // The tracer outlives the daemon by a moment.
    await until(
      () => existsSync(trace) && traceLines(trace).some((line) => / listen\(/.test(line)),
      "the trace",
    );
    const calls = traceLines(trace).map((line) => /(\w+)\(/.exec(line)?.[1] ?? "");
    const bind = calls.indexOf("bind");
    const listen = calls.indexOf("listen");
    const between = calls.slice(bind + 1, listen).filter((call) => /chmod|chown/.test(call));
    assert.ok(calls.slice(0, bind).includes("fchmod"), "closed to others when it is made");
    assert.ok(bind >= 0 && bind < listen && between.length === 2, calls.join());
  });

  test("of the control socket and of the one for metrics are options of their own", async () => {
    const control = newPath("control");
    const metrics = newPath("metrics");
    await using _daemon = await Vringd.start({
      args: [
        `--control-socket=${control}`,
        `--metrics=unix:${metrics}`,
        `--control-socket-group=${GROUP}`,
        "--metrics-mode=644",
      ],
    });
    assert.deepEqual([modeOf(control), statSync(control).gid], [0o660, GID]);
    assert.deepEqual([modeOf(metrics), statSync(metrics).gid], [0o644, process.getgid!()]);
  });

  test("that can't be given end the start, with nothing left behind", {
    skip: skipWithout(needsRoot),
  }, async () => {
    chmodSync(directory, 0o777);
    const path = newPath("sock");
    const image = newPath("img");
    const nobody = ["setpriv", "--reuid", String(NOBODY), "--regid", String(NOBODY), "--clear-groups"];
    const start = Vringd.start({
      under: nobody,
      program: [process.execPath, reachableProgram()],
      args: ["--blk-file=memory:1M", `--socket-path=${path}`, `--socket-group=${GROUP}`],
    });
    await assert.rejects(start, /can't listen on .*: operation not permitted/);
    assert.ok(!existsSync(path) && !existsSync(image));
    const unknown = Vringd.start({ args: ["--socket-group=no-such-group"] });
    await assert.rejects(unknown, /there is no group no-such-group/);
  });
});

describe("an abstract name", { timeout: 120_000 }, () => {
  test("takes front-ends of the same user, and is no file", async () => {
    const name = newName();
    await using daemon = await Vringd.start({ args: [`--socket-path=${name}`] });
    await using frontEnd = await FrontEnd.connect(name);
    await frontEnd.disk().read(0, 8);
    assert.ok(!existsSync(name));
    await assert.rejects(
      Vringd.start({ args: [`--socket-path=${name}`] }),
      /is in use: another process listens/,
    );
    assert.equal(await daemon.stop(), 0);
  });

  test("hangs up on another user's front-end, with few lines for many", {
    skip: skipWithout(needsRoot),
  }, async () => {
    const name = newName();
    await using daemon = await Vringd.start({ args: [`--socket-path=${name}`] });
    for (let i = 0; i < 30; i++) assert.equal(await answerToNobody(name), "");
    await using frontEnd = await FrontEnd.connect(name);
    await frontEnd.disk().read(0, 8);
    const told = daemon.linesLike(/a front-end of another user was refused/).length;
    assert.ok(told > 0 && told < 20, `${told} lines`);
  });

  test("that another user holds is no front-end's to --connect to", {
    skip: skipWithout(needsRoot),
  }, async () => {
    const name = newName();
    const stranger = asNobody(() => listenUnix(name));
    try {
      await using daemon = await Vringd.start({ args: [`--connect=${name}`] });
      await daemon.waitForLog(/waiting for a front-end .*another user listens there/);
      assert.equal(daemon.linesLike(/front-end connected/).length, 0);
    } finally {
      close(stranger);
    }
  });

  test("is a control socket's and metrics' place, too, for the same user", async () => {
    const control = newName();
    const metrics = newName();
    await using _daemon = await Vringd.start({
      args: [`--control-socket=${control}`, `--metrics=unix:${metrics}`],
    });
    const { status, stdout, stderr } = await toolbox(["ctl", control, "status", "--json"]);
    assert.equal(status, 0, stderr);
    assert.equal(JSON.parse(stdout).engine, "io_uring");
    assert.equal(await head(metrics, "/metrics"), 200);
    if (!isRoot) return;
    const question = "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n";
    assert.equal(await answerToNobody(control, question), "");
  });

  test("that is bound but doesn't listen is in use", async () => {
    const name = newName();
    const fd = listenUnix(name);
    try {
      await assert.rejects(Vringd.start({ args: [`--socket-path=${name}`] }), /is in use/);
    } finally {
      close(fd);
    }
  });
});

function head(name: string, path: string): Promise<number> {
  const socket = new Socket({ fd: connectUnix(name) });
  return new Promise((resolve, reject) => {
    request({ createConnection: () => socket, method: "HEAD", path }, ({ statusCode }) =>
      resolve(statusCode!),
    )
      .on("error", reject)
      .end();
  });
}
