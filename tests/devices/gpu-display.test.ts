// A GPU device and the front-end's display: one that is slow, mute, wrong or gone holds up neither guest nor session.
import assert from "node:assert/strict";
import { closeSync, openSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { PNG } from "pngjs";
import * as spec from "../../assembly/spec/virtio-gpu.ts";
import * as message from "../../host/displays/messages.ts";
import { Damage, hull, intersection } from "../../host/displays/rect.ts";
import { VHOST_USER_GPU_SET_SOCKET } from "../../host/protocol/messages.ts";
import { limitTests } from "../support/bounded-test.ts";
import { startGpu } from "../support/gpu-daemon.ts";
import { CONTROL, connectGpu, GpuDriver, words } from "../support/gpu-driver.ts";
import { gpuRig } from "../support/gpu-rig.ts";
import { Random } from "../support/random.ts";
import { toolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";

limitTests(300_000);

const {
  VIRTIO_GPU_RESP_OK_NODATA: OK,
  VIRTIO_GPU_RESP_OK_DISPLAY_INFO: INFO,
  VIRTIO_GPU_CMD_GET_DISPLAY_INFO: GET_DISPLAY_INFO,
  VIRTIO_GPU_CMD_GET_EDID: GET_EDID,
  VIRTIO_GPU_CMD_UPDATE_CURSOR: UPDATE_CURSOR,
  VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM: PLAIN,
} = spec;

const [WIDTH, HEIGHT] = [512, 400];
const ALL = { x: 0, y: 0, width: WIDTH, height: HEIGHT };
const FRAME = WIDTH * HEIGHT * 4;

test("a display that does not read gets the last picture, and the guest does not wait for it", async (t) => {
  const rig = await gpuRig(t);
  const driver = await rig.connect();
  const display = await rig.display(driver.frontEnd);
  const gpa = await driver.draw(1, PLAIN, WIDTH, HEIGHT, Buffer.alloc(FRAME));
  await driver.show(0, 1, ALL);
  await display.shows(0, WIDTH, HEIGHT, () => 0);
  display.pause();
  const before = display.pixelCount;
  for (let i = 1; i <= 100; i++) {
    driver.frontEnd.memory.write(gpa, Buffer.alloc(FRAME, i));
    assert.equal(await driver.transfer(1, ALL), OK);
    assert.equal(await driver.flush(1, ALL), OK);
    assert.equal(await driver.cursor(spec.VIRTIO_GPU_CMD_MOVE_CURSOR, { x: i, y: i }), OK);
  }
  // Nor does the session.
  await driver.frontEnd.getFeatures();
  display.resume();
  await display.shows(0, WIDTH, HEIGHT, () => 0x646464);
  await until(() => display.cursors.get(0)?.x === 100, "the pointer is where it was moved last");
  const frames = (display.pixelCount - before) / (WIDTH * HEIGHT);
  t.diagnostic(`${frames.toFixed(1)} of 100 pictures were sent`);
  assert.ok(frames < 10, `${frames} pictures were kept`);
});

test("a display that is mute is not waited for long, and rings stop meanwhile", async (t) => {
  const rig = await gpuRig(t, { resolution: [{ width: 320, height: 200 }] });
  const driver = await rig.connect();
  const mute = await rig.display(driver.frontEnd, { isMute: true });
  const posted = driver.post(GET_DISPLAY_INFO, Buffer.alloc(0));
  await until(() => mute.heard.length > 0, "it is asked");
  // As QEMU pauses: the display goes, rings stop. What was asked is asked again of the next one.
  const base = await driver.frontEnd.stopQueue(CONTROL);
  assert.equal(posted.used, undefined);
  await rig.display(driver.frontEnd, { sizes: [[1000, 700]] });
  await driver.frontEnd.startQueue(CONTROL, base);
  const { type, body } = await driver.answered(posted);
  assert.deepEqual([type, body.readUInt32LE(8), body.readUInt32LE(12)], [INFO, 1000, 700]);
  await rig.display(driver.frontEnd, { isMute: true });
  const own = await driver.ask(GET_DISPLAY_INFO);
  assert.deepEqual([own.body.readUInt32LE(8), own.body.readUInt32LE(12)], [320, 200]);
});

test("the next display is shown all, and no one the last", async (t) => {
  const rig = await gpuRig(t);
  const driver = await rig.connect();
  const first = await rig.display(driver.frontEnd);
  await driver.draw(1, PLAIN, 64, 64, Buffer.alloc(64 * 64 * 4, 0x55));
  await driver.show(0, 1, { x: 0, y: 0, width: 64, height: 64 });
  await driver.cursor(UPDATE_CURSOR, { id: 1, x: 9, y: 8, hotX: 1, hotY: 2 });
  await first.shows(0, 64, 64, () => 0x555555);
  first.close();
  assert.equal(await driver.flush(1, { x: 0, y: 0, width: 64, height: 64 }), OK);
  const second = await rig.display(driver.frontEnd);
  await second.shows(0, 64, 64, () => 0x555555);
  await until(() => second.cursors.get(0)?.pixels, "the pointer is shown");
  const third = await rig.display(driver.frontEnd);
  await third.shows(0, 64, 64, () => 0x555555);
  await until(() => second.isClosed, "the one before is let go");
});

describe("a display that talks nonsense is let go", () => {
  const header = (request: number, flags: number, size: number) => words(request, flags, size);
  for (const [what, bytes] of [
    ["a message that is no reply", header(message.VHOST_USER_GPU_GET_DISPLAY_INFO, 0, 0)],
    ["a reply that is too long", header(message.VHOST_USER_GPU_GET_EDID, 4, 1057)],
    ["a reply of all bits", Buffer.alloc(64, 0xff)],
    ["a reply that nobody has asked for", header(message.VHOST_USER_GPU_GET_EDID, 4, 0)],
    [
      "a reply of the wrong size",
      Buffer.concat([header(message.VHOST_USER_GPU_GET_DISPLAY_INFO, 4, 8), Buffer.alloc(8)]),
    ],
  ] as const) {
    test(`with ${what}`, async (t) => {
      const rig = await gpuRig(t);
      const driver = await rig.connect();
      const display = await rig.display(driver.frontEnd);
      await until(() => display.heard.includes(message.VHOST_USER_GPU_SET_PROTOCOL_FEATURES), "it has begun");
      display.say(bytes);
      await until(() => display.isClosed, "it is let go");
      assert.equal((await driver.ask(GET_DISPLAY_INFO)).type, INFO);
    });
  }

  test("and one that says half a reply is not waited for", async (t) => {
    const rig = await gpuRig(t);
    const driver = await rig.connect();
    const display = await rig.display(driver.frontEnd, { isMute: true });
    display.say(header(message.VHOST_USER_GPU_GET_PROTOCOL_FEATURES, 4, 8));
    assert.equal((await driver.ask(GET_DISPLAY_INFO)).type, INFO);
  });
});

test("a front-end without EDIDs is not asked for them", async (t) => {
  const rig = await gpuRig(t);
  const driver = await rig.connect();
  const display = await rig.display(driver.frontEnd, { features: 2n });
  const { type, body } = await driver.ask(GET_EDID, words(0, 0));
  assert.deepEqual([type, body.readUInt32LE(0)], [spec.VIRTIO_GPU_RESP_OK_EDID, 128]);
  assert.ok(!display.heard.includes(message.VHOST_USER_GPU_GET_EDID));
});

test("what is no socket is refused", async (t) => {
  const rig = await gpuRig(t);
  const driver = await rig.connect();
  const fd = openSync("/dev/null", "r+");
  assert.notEqual(await driver.frontEnd.command(VHOST_USER_GPU_SET_SOCKET, undefined, [fd]), 0n);
  closeSync(fd);
  assert.equal(await driver.create(1, PLAIN, 8, 8), OK);
});

test("without a head, the front-end is shown nothing, and the guest's screen is there", async (t) => {
  const rig = await gpuRig(t, { headless: true });
  const driver = await rig.connect();
  const display = await rig.display(driver.frontEnd);
  await until(() => display.isClosed, "the display is let go");
  await driver.draw(1, PLAIN, 16, 16, Buffer.alloc(1024, 0x66));
  await driver.show(0, 1, { x: 0, y: 0, width: 16, height: 16 });
  assert.ok(
    rig.device.screens
      .get("0")!
      .pixels()
      .every((pixel) => pixel === 0xff666666),
  );
});

test("the mode null answers everything and keeps no pixel", async (t) => {
  const rig = await gpuRig(t, { gpuMode: "null" });
  const driver = await rig.connect();
  const display = await rig.display(driver.frontEnd);
  await driver.draw(1, PLAIN, 64, 64, Buffer.alloc(64 * 64 * 4, 0x77));
  assert.equal(await driver.show(0, 1, { x: 0, y: 0, width: 64, height: 64 }), OK);
  assert.equal(await driver.flush(1, { x: 0, y: 0, width: 64, height: 64 }), OK);
  assert.equal(await driver.cursor(UPDATE_CURSOR, { id: 1 }), OK);
  assert.equal((await driver.ask(GET_DISPLAY_INFO)).body.readUInt32LE(8), 640);
  assert.deepEqual([rig.device.screens.size, display.surfaces.size], [0, 0]);
});

test("rectangles that wait cover all that has changed, and are few", () => {
  const random = new Random(11);
  const damage = new Damage();
  const rects = Array.from({ length: 500 }, () => {
    const [x, y] = [random.below(1000), random.below(1000)];
    return { x, y, width: random.between(1, 1024 - x), height: random.between(1, 1024 - y) };
  });
  for (const rect of rects) damage.add(rect);
  const taken = [];
  while (!damage.isEmpty) taken.push(damage.take(16384));
  for (const { width, height } of taken) assert.ok(width * height <= 16384);
  const all = rects.reduce(hull);
  for (const point of rects.map(({ x, y }) => ({ x, y, width: 1, height: 1 })))
    assert.ok(
      taken.some((rect) => intersection(rect, point).width > 0 && intersection(rect, point).height > 0),
    );
  assert.ok(taken.reduce((sum, { width, height }) => sum + width * height, 0) <= 8 * all.width * all.height);
});

test("vringd ctl takes a screenshot", async () => {
  await using daemon = await startGpu("--headless", "--resolution=40x30");
  const control = `${daemon.directory}/control`;
  const none = await toolbox(["ctl", control, "screenshot", `${daemon.directory}/none.png`]);
  assert.equal(none.status, 1);
  assert.match(none.stderr, /there is no screen "0": the guest shows nothing/);
  await using frontEnd = await connectGpu(daemon.socketPath);
  const driver = new GpuDriver(frontEnd);
  const pixels = new Random(5).bytes(40 * 30 * 4);
  await driver.draw(1, PLAIN, 40, 30, pixels);
  await driver.show(0, 1, { x: 0, y: 0, width: 40, height: 30 });
  const file = `${daemon.directory}/screen.png`;
  const { status, stderr } = await toolbox(["ctl", control, "screenshot", file]);
  assert.deepEqual([status, stderr], [0, ""]);
  const { width, height, data } = PNG.sync.read(readFileSync(file));
  assert.deepEqual([width, height], [40, 30]);
  for (let i = 0; i < 40 * 30; i++)
    assert.deepEqual(
      [...data.subarray(i * 4, i * 4 + 4)],
      [pixels[i * 4 + 2], pixels[i * 4 + 1], pixels[i * 4], 255],
    );
  for (const [args, said] of [
    [["1"], /no screen "1": those that show something are 0/],
    [["../status"], /no screen/],
  ] as const) {
    const wrong = await toolbox(["ctl", control, "screenshot", file, ...args]);
    assert.equal(wrong.status, 1);
    assert.match(wrong.stderr, said);
  }
  const nowhere = await toolbox(["ctl", control, "screenshot", "/nonexistent/screen.png"]);
  assert.equal(nowhere.status, 1);
  assert.match(nowhere.stderr, /can't write \/nonexistent\/screen.png: no such file or directory/);
});
