// `vringd ctl NAME view`, asked as a browser asks it, and as others might: who gets what, when, and how much of it is kept.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { Socket } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import * as spec from "../../assembly/spec/virtio-gpu.ts";
import { limitTests } from "../support/bounded-test.ts";
import { startGpu } from "../support/gpu-daemon.ts";
import { type Area, connectGpu, GpuDriver } from "../support/gpu-driver.ts";
import { Random } from "../support/random.ts";
import { startRng } from "../support/rng.ts";
import { toolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";
import { readChange, startView, type View } from "../support/view.ts";
import type { Vringd } from "../support/vringd.ts";

limitTests(300_000);

const { VIRTIO_GPU_RESP_OK_NODATA: OK, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM: PLAIN } = spec;
const [WIDTH, HEIGHT] = [40, 30];
const ALL = { x: 0, y: 0, width: WIDTH, height: HEIGHT };
const OFF = { x: 0, y: 0, width: 0, height: 0 };

interface Rig {
  daemon: Vringd;
  driver: GpuDriver;
  view: View;
}

/** A daemon whose screen 0 shows random pixels, if `pixels` are given, and a view of it. */
async function viewRig(t: TestContext, pixels?: Buffer): Promise<Rig & { gpa: number }> {
  const daemon = await startGpu("--headless", "--log-level=debug");
  t.after(() => daemon[Symbol.asyncDispose]());
  const driver = new GpuDriver(await connectGpu(daemon.socketPath));
  t.after(() => driver.frontEnd.close());
  let gpa = 0;
  if (pixels) {
    gpa = await driver.draw(1, PLAIN, WIDTH, HEIGHT, pixels);
    assert.equal(await driver.show(0, 1, ALL), OK);
  }
  const view = await startView(daemon);
  t.after(() => view[Symbol.asyncDispose]());
  return { daemon, driver, view, gpa };
}

/** The same for both, whatever is in the byte that does not count. */
function assertSame(shown: Buffer, drawn: Buffer): void {
  const opaque = (pixels: Buffer) => Buffer.from(pixels).map((byte, i) => (i % 4 === 3 ? 255 : byte));
  assert.ok(Buffer.from(opaque(shown)).equals(Buffer.from(opaque(drawn))), "the pixels differ");
}

function part(pixels: Buffer, { x, y, width, height }: Area): Buffer {
  const rows = Array.from({ length: height }, (_, row) => {
    const from = ((y + row) * WIDTH + x) * 4;
    return pixels.subarray(from, from + width * 4);
  });
  return Buffer.concat(rows);
}

test("only the whole address leads to the page, on loopback alone, under its own names", async (t) => {
  const { view } = await viewRig(t);
  const { port, hostname, pathname } = view.url;
  assert.equal(hostname, "127.0.0.1");
  const listening = ["tcp", "tcp6"].flatMap((name) =>
    readFileSync(`/proc/net/${name}`, "utf8")
      .split("\n")
      .map((line) => line.trim().split(/\s+/))
      .filter(
        ([, local, , state]) => state === "0A" && Number.parseInt(local!.split(":")[1]!, 16) === Number(port),
      )
      .map(([, local]) => local!.split(":")[0]),
  );
  assert.deepEqual(listening, ["0100007F"]);

  const page = await view.ask("");
  assert.equal(page.status, 200);
  assert.match(page.headers["content-type"]!, /^text\/html/);
  assert.match(String(page.headers["content-security-policy"]), /frame-ancestors 'none'/);
  assert.match(
    page.body.toString(),
    /Content-Security-Policy" content="default-src 'none'; script-src 'sha256-/,
  );
  const token = pathname.slice(1, -1);
  assert.ok(Buffer.from(token, "base64url").length >= 16);
  for (const path of [
    "/",
    "/changes",
    "/x/",
    `/${token.slice(1)}/`,
    `/${token}x/`,
    `//${token}/`,
    "/%00/changes",
    "//",
    "//[",
  ])
    assert.equal((await view.ask(path)).status, 403, path);
  assert.equal((await view.ask("/changes?since=0")).status, 403);
  for (const path of [`/${token}`, `/${token}/favicon.ico`, `/${token}/../${token}/x`])
    assert.equal((await view.ask(path)).status, 404, path);
  for (const host of [`rebound.example:${port}`, "127.0.0.1", "localhost", `127.0.0.1:${port}.example`])
    for (const path of ["", "changes?since=0"])
      assert.equal((await view.ask(path, { host })).status, 421, host);
  assert.equal((await view.ask("", { host: `localhost:${port}`, method: "HEAD" })).status, 200);
  assert.equal((await view.ask("", { method: "POST" })).status, 405);
  assert.equal((await view.ask("changes?since=-1")).status, 502);
});

test("a change is what was drawn since, and waits until there is one", async (t) => {
  const pixels = new Random(21).bytes(WIDTH * HEIGHT * 4);
  const { driver, view, gpa } = await viewRig(t, pixels);
  const first = await view.changeSince(0);
  assert.deepEqual(
    [first.head.width, first.head.height, first.head.rects, first.head.pointer],
    [WIDTH, HEIGHT, [ALL], null],
  );
  assertSame(first.pixels, pixels);

  const waiting = view.changeSince(first.head.version);
  // An answer that did not wait would come before this one, and be empty.
  await view.ask("");
  const other = new Random(22).bytes(pixels.length);
  driver.frontEnd.memory.write(gpa, other);
  const changed = { x: 3, y: 5, width: 17, height: 9 };
  assert.equal(await driver.transfer(1, changed, (5 * WIDTH + 3) * 4), OK);
  assert.equal(await driver.flush(1, changed), OK);
  const second = await waiting;
  assert.deepEqual(second.head.rects, [changed]);
  assertSame(second.pixels, part(other, changed));
  // Of a version that is not known: all.
  const all = await view.changeSince(second.head.version + 1000);
  assert.deepEqual(all.head.rects, [ALL]);
});

test("a screen that goes off, changes its size or is reset with its device is told", async (t) => {
  const pixels = new Random(23).bytes(WIDTH * HEIGHT * 4);
  const { daemon, driver, view } = await viewRig(t, pixels);
  let { version } = (await view.changeSince(0)).head;
  const next = async () => {
    const change = await view.changeSince(version);
    ({ version } = change.head);
    return change;
  };
  assert.equal(await driver.show(0, 0, OFF), OK);
  const off = await next();
  assert.deepEqual([off.head.width, off.head.height, off.head.rects], [0, 0, []]);

  const small = new Random(24).bytes(8 * 4 * 4);
  await driver.draw(2, PLAIN, 8, 4, small);
  assert.equal(await driver.show(0, 2, { x: 0, y: 0, width: 8, height: 4 }), OK);
  const resized = await next();
  assert.deepEqual([resized.head.width, resized.head.height], [8, 4]);
  assertSame(resized.pixels, small);

  await driver.frontEnd.resetDevice();
  assert.equal((await next()).head.width, 0);
  driver.frontEnd.close();
  await using frontEnd = await connectGpu(daemon.socketPath);
  const successor = new GpuDriver(frontEnd);
  await successor.draw(1, PLAIN, WIDTH, HEIGHT, pixels);
  assert.equal(await successor.show(0, 1, ALL), OK);
  const again = await next();
  assert.deepEqual(again.head.rects, [ALL]);
  assertSame(again.pixels, pixels);
});

test("the pointer's picture comes once, and its place whenever it moves", async (t) => {
  const { driver, view } = await viewRig(t, Buffer.alloc(WIDTH * HEIGHT * 4));
  const { version } = (await view.changeSince(0)).head;
  const picture = new Random(25).bytes(64 * 64 * 4);
  await driver.draw(5, spec.VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, 64, 64, picture);
  const { VIRTIO_GPU_CMD_UPDATE_CURSOR: UPDATE, VIRTIO_GPU_CMD_MOVE_CURSOR: MOVE } = spec;
  assert.equal(await driver.cursor(UPDATE, { id: 5, x: 0x1_0000_0000 - 2, y: 8, hotX: 4, hotY: 1 }), OK);
  const shown = await view.changeSince(version);
  assert.deepEqual([shown.head.rects, shown.head.pointer], [[], { x: -2, y: 8, pixels: 64 * 64 }]);
  assert.ok(shown.pixels.equals(picture));
  await driver.cursor(MOVE, { x: 12, y: 3 });
  const moved = await view.changeSince(shown.head.version);
  assert.deepEqual([moved.head.pointer, moved.pixels.length], [{ x: 12, y: 3, pixels: 0 }, 0]);
  // Whoever comes later has it, too.
  assert.ok((await view.changeSince(0)).pixels.subarray(-picture.length).equals(picture));
  await driver.cursor(UPDATE, { x: 0, y: 0 });
  assert.equal((await view.changeSince(moved.head.version)).head.pointer, null);
});

test("several watch, each from where it is, and those beyond are told to wait", async (t) => {
  const pixels = new Random(26).bytes(WIDTH * HEIGHT * 4);
  const { driver, view, daemon } = await viewRig(t, pixels);
  const { version } = (await view.changeSince(0)).head;
  const other = await startView(daemon);
  t.after(() => other[Symbol.asyncDispose]());
  const waiting = [view, view, view, other, other, other].map((each) => {
    const sent = each.send(`changes?since=${version}`);
    const one = { sent, response: undefined as IncomingMessage | undefined };
    sent.on("error", () => {});
    sent.on("response", (response) => {
      one.response = response;
    });
    return one;
  });
  const refused = await until(() => {
    const some = waiting.filter(({ response }) => response);
    return some.length === 2 && some;
  }, "two are refused");
  for (const { response } of refused) {
    assert.equal(response!.statusCode, 502);
    assert.match(String(await response!.setEncoding("utf8").toArray()), /4 watch already/);
  }
  // One that leaves makes room for another.
  const [leaving, ...staying] = waiting.filter((each) => !refused.includes(each));
  leaving!.sent.destroy();
  await until(async () => (await view.ask("changes?since=0")).status === 200, "there is room again");
  assert.equal(await driver.flush(1, ALL), OK);
  for (const { sent, response } of staying) {
    const [answer] = response ? [response] : ((await once(sent, "response")) as [IncomingMessage]);
    assert.equal(answer.statusCode, 200);
    const { head } = readChange(Buffer.concat(await answer.toArray()));
    assert.deepEqual(head.rects, [ALL]);
  }
});

test("a viewer that takes nothing keeps nobody waiting and no pictures, and is given up", async (t) => {
  const { driver, view } = await viewRig(t);
  const side = 2048;
  const all = { x: 0, y: 0, width: side, height: side };
  await driver.draw(1, PLAIN, side, side, Buffer.alloc(side * side * 4));
  assert.equal(await driver.show(0, 1, all), OK);
  const stuck = new Socket().connect(Number(view.url.port), "127.0.0.1");
  t.after(() => stuck.destroy());
  stuck.pause();
  const closed = once(stuck, "close");
  stuck.write(`GET ${view.url.pathname}changes?since=0 HTTP/1.1\r\nHost: ${view.url.host}\r\n\r\n`);
  await until(() => isHeld(view, stuck), "it is connected");
  let version = 0;
  for (let frame = 0; frame < 40; frame++) {
    assert.equal(await driver.flush(1, all), OK);
    const { head, pixels } = await view.changeSince(version);
    assert.deepEqual([head.rects, pixels.length], [[all], side * side * 4]);
    ({ version } = head);
  }
  const status = readFileSync(`/proc/${view.run.child.pid}/status`, "utf8");
  const peakMiB = Number(/^VmHWM:\s*(\d+) kB/m.exec(status)?.[1]) / 1024;
  // The pictures have 640 MiB.
  assert.ok(peakMiB < 320, `${peakMiB} MiB`);
  await until(() => !isHeld(view, stuck), "it is given up", 60_000);
  // What is on its way to it ends before the picture does.
  let byteLength = 0;
  stuck.on("data", (bytes) => {
    byteLength += bytes.length;
  });
  stuck.resume();
  await closed;
  assert.ok(byteLength < side * side * 4, `${byteLength} bytes`);
});

/** Whether the view's end of this connection is open. */
function isHeld({ url }: View, { localPort }: Socket): boolean {
  const ESTABLISHED = "01";
  const ends = [url.port, String(localPort)].map((port) =>
    Number(port).toString(16).toUpperCase().padStart(4, "0"),
  );
  const connections = readFileSync("/proc/net/tcp", "utf8").split("\n");
  return connections.some((line) => line.includes(`:${ends[0]} 0100007F:${ends[1]} ${ESTABLISHED} `));
}

test("the daemon's end is told to those who wait, and ends the view", async (t) => {
  for (const end of [(daemon: Vringd) => daemon.stop(), (daemon: Vringd) => daemon.kill9()]) {
    const { daemon, view } = await viewRig(t);
    const { version } = (await view.changeSince(0)).head;
    const waiting = view.ask(`changes?since=${version}`);
    await view.ask("");
    await end(daemon);
    const { status, body } = await waiting;
    assert.deepEqual([status, String(body)], [410, "The daemon has ended.\n"]);
    const outcome = await view.run.done;
    assert.equal(outcome.status, 1);
    assert.match(outcome.stderr, /^vringd: .*\/control: the daemon has ended\n$/);
  }
});

test("its user ends it, and the daemon goes on", async (t) => {
  const { daemon, view } = await viewRig(t);
  const waiting = view.ask(`changes?since=${(await view.changeSince(0)).head.version}`);
  waiting.catch(() => {});
  view.run.child.kill("SIGINT");
  assert.deepEqual([(await view.run.done).status, (await view.run.done).stderr], [0, ""]);
  await assert.rejects(waiting);
  assert.equal((await toolbox(["ctl", join(daemon.directory, "control"), "status"])).status, 0);
});

test("what can't be viewed is a sentence", async (t) => {
  const { daemon, view } = await viewRig(t);
  const control = join(daemon.directory, "control");
  await using rng = await startRng(undefined, {
    deviceArgs: (directory) => [`--control-socket=${join(directory, "control")}`],
  });
  for (const [args, status, said] of [
    [[control, "view", "16"], 1, /there is no screen "16" to watch: they are 0 to 15/],
    [[join(rng.directory, "control"), "view"], 1, /there is no screen "0" to watch: this device has none/],
    [
      [control, "view", "--port", view.url.port],
      1,
      /can't listen on port \d+ of 127.0.0.1: address already in use/,
    ],
    [[control, "view", "0", "1"], 2, /view takes the number of one screen/],
    [[control, "view", "--port", "70000"], 2, /--port/],
  ] as const) {
    const outcome = await toolbox(["ctl", ...args]);
    assert.equal(outcome.status, status, outcome.stderr);
    assert.match(outcome.stderr, said);
  }
  const other = await startView(daemon, "15");
  t.after(() => other[Symbol.asyncDispose]());
  assert.deepEqual([other.screen, (await other.changeSince(0)).head.width], ["15", 0]);
});
