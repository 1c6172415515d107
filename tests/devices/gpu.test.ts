// The GPU device at a real front-end's rings: pictures of every format arrive pixel by pixel, whole or in part, with their pointers.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as spec from "../../assembly/spec/virtio-gpu.ts";
import * as message from "../../host/displays/messages.ts";
import { limitTests } from "../support/bounded-test.ts";
import { words } from "../support/gpu-driver.ts";
import { gpuRig } from "../support/gpu-rig.ts";
import { Random } from "../support/random.ts";
import { until } from "../support/until.ts";

limitTests(300_000);

const {
  VIRTIO_GPU_RESP_OK_NODATA: OK,
  VIRTIO_GPU_CMD_GET_DISPLAY_INFO: GET_DISPLAY_INFO,
  VIRTIO_GPU_CMD_GET_EDID: GET_EDID,
  VIRTIO_GPU_CMD_UPDATE_CURSOR: UPDATE_CURSOR,
  VIRTIO_GPU_CMD_MOVE_CURSOR: MOVE_CURSOR,
  VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM: PLAIN,
  VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM: PLAIN_ALPHA,
} = spec;

/** Formats by their names: in which order the bytes of a pixel lie in memory. */
const FORMATS = Object.entries(spec).flatMap(([name, number]) => {
  const order = /^VIRTIO_GPU_FORMAT_([A-Z0-9]+)_UNORM$/.exec(name)?.[1]?.replaceAll("8", "");
  return order === undefined ? [] : [[order, number as number] as const];
});

/** A colour that differs from pixel to pixel in each of its parts. */
const colourAt = (x: number, y: number) =>
  ((x * 7) & 0xff) * 0x10000 + ((y * 11) & 0xff) * 0x100 + ((x + y) & 0xff);

function encode(order: string, colour: number, alpha: number): number[] {
  const parts: Record<string, number> = {
    R: (colour >> 16) & 0xff,
    G: (colour >> 8) & 0xff,
    B: colour & 0xff,
    A: alpha,
    X: 0x5a,
  };
  return [...order].map((letter) => parts[letter]!);
}

function picture(width: number, height: number, order = "BGRX", at = colourAt, alpha = 0x80): Buffer {
  const pixels: number[] = [];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) pixels.push(...encode(order, at(x, y), alpha));
  return Buffer.from(pixels);
}

const whole = (width: number, height: number) => ({ x: 0, y: 0, width, height });

test("there are eight formats", () => {
  assert.equal(FORMATS.length, 8);
});

for (const packed of [false, true]) {
  for (const [order, format] of FORMATS) {
    test(`${order} is shown pixel by pixel, by ${packed ? "packed" : "split"} rings`, async (t) => {
      const { connect, display: attach } = await gpuRig(t);
      const driver = await connect({ packed });
      const display = await attach(driver.frontEnd);
      await driver.draw(1, format, 161, 97, picture(161, 97, order));
      assert.equal(await driver.show(0, 1, whole(161, 97)), OK);
      assert.equal(await driver.flush(1, whole(161, 97)), OK);
      await display.shows(0, 161, 97, colourAt);
    });
  }
}

test("parts of a picture come from their offsets, and go to their places", async (t) => {
  const { connect, display: attach } = await gpuRig(t);
  const driver = await connect();
  const display = await attach(driver.frontEnd);
  const [width, height] = [128, 96];
  const gpa = await driver.draw(1, PLAIN, width, height, picture(width, height));
  await driver.show(0, 1, whole(width, height));
  await driver.flush(1, whole(width, height));
  await display.shows(0, width, height, colourAt);

  const other = (x: number, y: number) => colourAt(y, x) ^ 0xffffff;
  driver.frontEnd.memory.write(gpa, picture(width, height, "BGRX", other));
  const parts = [
    { x: 3, y: 5, width: 40, height: 30 },
    { x: 127, y: 95, width: 1, height: 1 },
    { x: 0, y: 60, width: 128, height: 20 },
  ];
  const isIn = (x: number, y: number) =>
    parts.some((part) => x >= part.x && x < part.x + part.width && y >= part.y && y < part.y + part.height);
  for (const part of parts) {
    const offset = (part.y * width + part.x) * 4;
    assert.equal(await driver.transfer(1, part, offset), OK);
    assert.equal(await driver.flush(1, part), OK);
  }
  await display.shows(0, width, height, (x, y) => (isIn(x, y) ? other(x, y) : colourAt(x, y)));
  // From another place than its own.
  assert.equal(await driver.transfer(1, { x: 10, y: 10, width: 4, height: 4 }, 0), OK);
  assert.equal(await driver.flush(1, { x: 0, y: 0, width: 30, height: 30 }), OK);
  const isMoved = (x: number, y: number) => x >= 10 && x < 14 && y >= 10 && y < 14;
  await display.shows(0, width, height, (x, y) => {
    if (isMoved(x, y)) return other(x - 10, y - 10);
    return isIn(x, y) ? other(x, y) : colourAt(x, y);
  });
});

test("only what is flushed is sent", async (t) => {
  const { connect, display: attach } = await gpuRig(t);
  const driver = await connect();
  const display = await attach(driver.frontEnd);
  await driver.draw(1, PLAIN, 200, 100, picture(200, 100));
  await driver.show(0, 1, whole(200, 100));
  await display.shows(0, 200, 100, colourAt);
  const before = display.pixelCount;
  await driver.flush(1, { x: 20, y: 30, width: 50, height: 10 });
  await until(() => display.pixelCount > before, "the part is sent");
  assert.equal(display.pixelCount - before, 500);
  assert.equal(display.heard.filter((number) => number === message.VHOST_USER_GPU_SCANOUT).length, 1);
});

test("memory behind a picture may lie in pieces of any size", async (t) => {
  const { connect, display: attach } = await gpuRig(t);
  const driver = await connect();
  const display = await attach(driver.frontEnd);
  const { memory } = driver.frontEnd;
  const pixels = picture(100, 50);
  const random = new Random(3);
  let at = 0;
  const ranges = random.cut(pixels.length, 200).map((length) => {
    const gpa = memory.allocate(length);
    memory.write(gpa, pixels.subarray(at, at + length));
    at += length;
    return { gpa, length };
  });
  await driver.create(1, PLAIN, 100, 50);
  assert.equal(await driver.attach(1, ranges), OK);
  for (let y = 0; y < 50; y += 7)
    for (const [x, width] of [
      [0, 33],
      [33, 67],
    ] as const) {
      const height = Math.min(7, 50 - y);
      assert.equal(await driver.transfer(1, { x, y, width, height }, (y * 100 + x) * 4), OK);
    }
  await driver.show(0, 1, whole(100, 50));
  await display.shows(0, 100, 50, colourAt);
});

test("screens show parts of one picture, the same part, or pictures of their own", async (t) => {
  const { connect, display: attach } = await gpuRig(t);
  const driver = await connect();
  const display = await attach(driver.frontEnd, {
    sizes: [
      [64, 48],
      [64, 48],
    ],
  });
  await driver.draw(1, PLAIN, 128, 48, picture(128, 48));
  await driver.draw(
    2,
    PLAIN,
    30,
    20,
    picture(30, 20, "BGRX", (x, y) => colourAt(y, x)),
  );
  const right = { x: 64, y: 0, width: 64, height: 48 };
  assert.equal(await driver.show(0, 1, whole(64, 48)), OK);
  assert.equal(await driver.show(1, 1, right), OK);
  assert.equal(await driver.show(15, 1, right), OK);
  assert.equal(await driver.show(7, 2, whole(30, 20)), OK);
  await display.shows(0, 64, 48, colourAt);
  await display.shows(1, 64, 48, (x, y) => colourAt(x + 64, y));
  await display.shows(15, 64, 48, (x, y) => colourAt(x + 64, y));
  await display.shows(7, 30, 20, (x, y) => colourAt(y, x));
  // What only one of them shows is sent to that one.
  const before = display.pixelCount;
  assert.equal(await driver.flush(1, { x: 60, y: 10, width: 4, height: 4 }), OK);
  await until(() => display.pixelCount > before, "the part is sent");
  assert.equal(display.pixelCount - before, 16);
  assert.equal(await driver.show(1, 0, whole(0, 0)), OK);
  await until(() => !display.surfaces.has(1), "screen 1 is off");
  assert.equal(await driver.unref(1), OK);
  await until(
    () => !display.surfaces.has(0) && !display.surfaces.has(15),
    "screens of a picture that is gone are off",
  );
  assert.ok(display.surfaces.has(7));
});

test("a fence comes back with the answer, and no flag without one", async (t) => {
  const { connect } = await gpuRig(t);
  const driver = await connect();
  const fenceId = 0xfeed_beef_1234_5678n;
  const create = words(1, PLAIN, 8, 8);
  const done = await driver.ask(spec.VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, create, fenceId);
  assert.deepEqual([done.type, done.flags, done.fenceId], [OK, 1, fenceId]);
  const failed = await driver.ask(spec.VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, create, fenceId + 1n);
  assert.deepEqual([failed.flags, failed.fenceId], [1, fenceId + 1n]);
  assert.equal(failed.type, spec.VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
  const plain = await driver.ask(GET_DISPLAY_INFO);
  assert.deepEqual([plain.flags, plain.fenceId], [0, 0n]);
});

test("a pointer is shown, moved without its picture, and hidden", async (t) => {
  const { connect, display: attach } = await gpuRig(t);
  const driver = await connect();
  const display = await attach(driver.frontEnd);
  await driver.draw(5, PLAIN_ALPHA, 64, 64, picture(64, 64, "BGRA", colourAt, 0x7f));
  assert.equal(await driver.cursor(UPDATE_CURSOR, { id: 5, x: 30, y: 40, hotX: 3, hotY: 4 }), OK);
  await until(() => display.cursors.get(0)?.pixels, "the pointer is shown");
  const { pixels, ...place } = display.cursors.get(0)!;
  assert.deepEqual(place, { isShown: true, x: 30, y: 40, hotX: 3, hotY: 4 });
  assert.equal(pixels![64 * 10 + 20], ((0x7f << 24) | colourAt(20, 10)) >>> 0);
  // As Linux draws it: with alpha in a format that has none.
  await driver.draw(7, PLAIN, 64, 64, picture(64, 64));
  assert.equal(await driver.cursor(UPDATE_CURSOR, { id: 7, x: 30, y: 40, hotX: 3, hotY: 4 }), OK);
  await until(
    () => display.cursors.get(0)!.pixels![0] === ((0x5a << 24) | colourAt(0, 0)) >>> 0,
    "it is transparent",
  );
  // It stays what it was when its picture goes.
  for (const id of [5, 7]) assert.equal(await driver.unref(id), OK);
  assert.equal(await driver.cursor(MOVE_CURSOR, { x: 31, y: 41, room: 0 }), 0);
  await until(() => display.cursors.get(0)?.x === 31, "the pointer is moved");
  assert.equal(display.cursors.get(0)!.isShown, true);
  assert.equal(await driver.cursor(UPDATE_CURSOR, { x: 31, y: 41 }), OK);
  await until(() => display.cursors.get(0)?.isShown === false, "the pointer is hidden");
  assert.equal(await driver.cursor(UPDATE_CURSOR, { id: 5 }), spec.VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
  await driver.create(6, PLAIN_ALPHA, 32, 32);
  assert.equal(await driver.cursor(UPDATE_CURSOR, { id: 6 }), spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
  assert.equal(
    await driver.cursor(MOVE_CURSOR, { scanout: 16 }),
    spec.VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID,
  );
  assert.equal(await driver.cursor(GET_EDID, {}), spec.VIRTIO_GPU_RESP_ERR_UNSPEC);
});

test("screens are as the front-end says", async (t) => {
  const { connect, display: attach } = await gpuRig(t);
  const driver = await connect();
  await attach(driver.frontEnd, {
    sizes: [
      [800, 600],
      [1024, 768],
    ],
  });
  const { type, body, length } = await driver.ask(GET_DISPLAY_INFO);
  assert.deepEqual([type, length], [spec.VIRTIO_GPU_RESP_OK_DISPLAY_INFO, spec.GPU_DISPLAY_INFO_SIZE]);
  const second = Array.from({ length: 6 }, (_, i) => body.readUInt32LE(24 + i * 4));
  assert.deepEqual(second, [10_000, 0, 1024, 768, 1, 0]);
  assert.ok(body.subarray(48).every((byte) => byte === 0));
  const edid = await driver.ask(GET_EDID, words(1, 0));
  assert.deepEqual([edid.type, edid.length], [spec.VIRTIO_GPU_RESP_OK_EDID, spec.GPU_EDID_SIZE]);
  assert.deepEqual(edid.body, Buffer.alloc(1032, 0x41));
});

test("screens are as options say where no front-end does, and may change", async (t) => {
  const resolution = [
    { width: 1024, height: 768 },
    { width: 640, height: 480 },
  ];
  const { connect, device } = await gpuRig(t, { resolution });
  const driver = await connect();
  const { frontEnd } = driver;
  const info = async () => {
    const { body } = await driver.ask(GET_DISPLAY_INFO);
    return [0, 1, 2].map((screen) =>
      Array.from({ length: 5 }, (_, i) => body.readUInt32LE(screen * 24 + i * 4)),
    );
  };
  const first = [0, 0, 1024, 768, 1];
  assert.deepEqual(await info(), [first, [1024, 0, 640, 480, 1], [0, 0, 0, 0, 0]]);
  const config = async () =>
    Array.from(new Uint32Array(Uint8Array.from((await frontEnd.getConfig(0, 20))!).buffer));
  assert.deepEqual(await config(), [0, 0, 2, 0, 0]);
  device.commands.resolution!.run(["1", "800x600"]);
  assert.deepEqual(await config(), [spec.VIRTIO_GPU_EVENT_DISPLAY, 0, 2, 0, 0]);
  assert.deepEqual((await info())[1], [1024, 0, 800, 600, 1]);
  // As QEMU writes it: all for one field.
  const space = Buffer.alloc(20, 0xff);
  space.writeUInt32LE(spec.VIRTIO_GPU_EVENT_DISPLAY, spec.GPU_CONFIG_EVENTS_CLEAR);
  assert.equal(await frontEnd.setConfig({ offset: 0, flags: 0, bytes: space }), 0n);
  assert.deepEqual(await config(), [0, 0, 2, 0, 0]);
  for (const args of [[], ["1"], ["2", "800x600"], ["0", "15x600"], ["0", "4096x600"], ["0", "800x600", "1"]])
    assert.throws(() => device.commands.resolution!.run(args), RangeError);
  const edid = (await driver.ask(GET_EDID, words(1, 0))).body;
  const block = edid.subarray(8, 136);
  assert.equal(edid.readUInt32LE(0), 128);
  assert.equal(block.reduce((sum, byte) => sum + byte, 0) % 256, 0);
  const timing = block.subarray(54);
  assert.deepEqual(
    [timing[2]! | ((timing[4]! >> 4) << 8), timing[5]! | ((timing[7]! >> 4) << 8)],
    [800, 600],
  );
  assert.equal(await driver.tell(GET_EDID, 2, 0), spec.VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
});
