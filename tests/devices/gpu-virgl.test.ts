// A graphics card for three dimensions at our own front-end: what its driver draws by virgl is what screens show.
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as spec from "../../assembly/spec/virtio-gpu.ts";
import { limitTests } from "../support/bounded-test.ts";
import { anyGpuRequest, CONTROL, words } from "../support/gpu-driver.ts";
import { gpuRig } from "../support/gpu-rig.ts";
import { Random } from "../support/random.ts";
import { skipWithout } from "../support/skip.ts";
import { until } from "../support/until.ts";
import { clearCommands, picture, whyNoVirgl } from "../support/virgl-commands.ts";
import { connectVirgl, VirglDriver } from "../support/virgl-driver.ts";

limitTests(600_000);

const {
  VIRTIO_GPU_RESP_OK_NODATA: OK,
  VIRTIO_GPU_RESP_ERR_UNSPEC: UNSPEC,
  VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY: OUT_OF_MEMORY,
  VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID: NO_CONTEXT,
  VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID: NO_RESOURCE,
  VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER: INVALID,
  VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM: FORMAT,
} = spec;

const [WIDTH, HEIGHT] = [64, 48];
const ALL = { x: 0, y: 0, width: WIDTH, height: HEIGHT };
const FRAME = WIDTH * HEIGHT * 4;
const MOST = 0xffff_ffff;

async function rigOf(t: TestContext, values: Parameters<typeof gpuRig>[1] = {}) {
  const rig = await gpuRig(t, { virgl: true, useSurfaceless: true, ...values });
  return {
    ...rig,
    connect: async (options?: Parameters<typeof connectVirgl>[0]) =>
      new VirglDriver((await rig.connect(connectVirgl(options))).frontEnd),
  };
}

/** The renderer's process. */
const rendererOf = (rig: Awaited<ReturnType<typeof gpuRig>>) =>
  Number(rig.device.facts.status.gpu!.rendererPid);

/** Context 1 with resource 7 of 64 x 48 pixels on screen 0. */
async function shown(t: TestContext, values?: Parameters<typeof gpuRig>[1]) {
  const rig = await rigOf(t, values);
  const driver = await rig.connect();
  assert.equal(await driver.createContext(1), OK);
  assert.equal(await driver.create3d(picture(7, FORMAT, WIDTH, HEIGHT)), OK);
  assert.equal(await driver.attachTo(1, 7), OK);
  assert.equal(await driver.show(0, 7, ALL), OK);
  return { rig, driver };
}

/** The driver that comes after a reset. */
async function drawsAnew({ device }: Awaited<ReturnType<typeof rigOf>>, { frontEnd }: VirglDriver) {
  assert.equal(await frontEnd.setFeatures(frontEnd.features), 0n);
  await frontEnd.renewQueue(CONTROL);
  const driver = new VirglDriver(frontEnd);
  assert.equal(await driver.createContext(1), OK);
  assert.equal(await driver.create3d(picture(7, FORMAT, WIDTH, HEIGHT)), OK);
  assert.equal(await driver.attachTo(1, 7), OK);
  assert.equal((await driver.submit(1, clearCommands(10, 7, FORMAT, [0, 1, 0, 1]))).type, OK);
  assert.equal(await driver.show(0, 7, ALL), OK);
  const pixels = device.screens.get("0")!.pixels();
  assert.ok(pixels.every((each) => each === 0xff00ff00));
}

describe("a graphics card for three dimensions", { skip: skipWithout(whyNoVirgl()) }, () => {
  test("a driver that accepts three dimensions is told of both sets of capabilities", async (t) => {
    const rig = await rigOf(t);
    const driver = await rig.connect();
    assert.equal(
      (await driver.frontEnd.getConfig(0, spec.GPU_CONFIG_SIZE))!.readUInt32LE(spec.GPU_CONFIG_NUM_CAPSETS),
      2,
    );
    for (const [index, id] of [spec.VIRTIO_GPU_CAPSET_VIRGL, spec.VIRTIO_GPU_CAPSET_VIRGL2].entries()) {
      const info = await driver.ask(spec.VIRTIO_GPU_CMD_GET_CAPSET_INFO, words(index, 0));
      assert.equal(info.type, spec.VIRTIO_GPU_RESP_OK_CAPSET_INFO);
      const [told, version, size] = [0, 4, 8].map((at) => info.body.readUInt32LE(at));
      assert.equal(told, id);
      const room = spec.GPU_HEADER_SIZE + size!;
      const posted = driver.post(spec.VIRTIO_GPU_CMD_GET_CAPSET, words(id, version!), room);
      const capset = await driver.answered(posted);
      assert.deepEqual([capset.type, capset.length], [spec.VIRTIO_GPU_RESP_OK_CAPSET, room]);
      if (id === spec.VIRTIO_GPU_CAPSET_VIRGL2) assert.match(capset.body.toString("latin1"), /llvmpipe/i);
    }
    assert.equal(await driver.tell(spec.VIRTIO_GPU_CMD_GET_CAPSET_INFO, 2, 0), INVALID);
    assert.equal(await driver.tell(spec.VIRTIO_GPU_CMD_GET_CAPSET, 3, 0), INVALID);
    assert.equal(await driver.tell(spec.VIRTIO_GPU_CMD_GET_CAPSET, 2, 3), INVALID);
  });

  test("a driver that does not accept them has two, as it would without", async (t) => {
    const rig = await gpuRig(t, { virgl: true, useSurfaceless: true });
    const driver = await rig.connect();
    assert.equal(
      await driver.tell(spec.VIRTIO_GPU_CMD_RESOURCE_CREATE_3D, ...picture(7, FORMAT, 8, 8), 0),
      UNSPEC,
    );
    await driver.draw(1, FORMAT, 8, 8, Buffer.alloc(256, 0x11));
    await driver.show(0, 1, { x: 0, y: 0, width: 8, height: 8 });
    assert.deepEqual(rig.device.screens.get("0")!.pixels(), new Uint32Array(64).fill(0xff111111));
  });

  test("what is drawn is shown at each flush, at the front-end's display and in a screenshot", async (t) => {
    const { rig, driver } = await shown(t);
    const display = await rig.display(driver.frontEnd);
    for (const [i, [colour, pixel]] of (
      [
        [[0.2, 0.4, 0.6, 1], 0x336699],
        [[1, 0, 0, 1], 0xff0000],
      ] as const
    ).entries()) {
      const fenceId = BigInt(i + 1);
      const answer = await driver.submit(1, clearCommands(10 + i, 7, FORMAT, colour), fenceId);
      assert.deepEqual(
        [answer.type, answer.flags, answer.fenceId],
        [OK, spec.VIRTIO_GPU_FLAG_FENCE, fenceId],
      );
      assert.equal(await driver.flush(7, ALL), OK);
      await display.shows(0, WIDTH, HEIGHT, () => pixel);
      const pixels = rig.device.screens.get("0")!.pixels();
      assert.ok(pixels.every((each) => each === (0xff000000 | pixel) >>> 0));
    }
  });

  test("pixels come from guest memory and go back to it, in the guest's own rows", async (t) => {
    const { rig, driver } = await shown(t);
    const { memory } = driver.frontEnd;
    const gpa = memory.allocate(FRAME);
    const pattern = Buffer.from(
      Uint8Array.from({ length: FRAME }, (_, i) => (i % 4 === 3 ? 255 : (i * 7 + (i >> 8)) & 255)),
    );
    memory.write(gpa, pattern);
    assert.equal(await driver.transfer3d(spec.VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D, 7, ALL), UNSPEC);
    assert.equal(
      await driver.attach(7, [
        { gpa, length: 4096 },
        { gpa: gpa + 4096, length: FRAME - 4096 },
      ]),
      OK,
    );
    assert.equal(await driver.transfer3d(spec.VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D, 7, ALL), OK);
    assert.equal(await driver.flush(7, ALL), OK);
    const expected = new Uint32Array(pattern.buffer.slice(pattern.byteOffset, pattern.byteOffset + FRAME));
    assert.deepEqual(rig.device.screens.get("0")!.pixels(), expected);
    memory.write(gpa, Buffer.alloc(FRAME));
    assert.equal(await driver.transfer3d(spec.VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, 7, ALL), OK);
    assert.deepEqual(Buffer.from(memory.read(gpa, FRAME)), pattern);
    // As for two dimensions.
    memory.write(gpa, Buffer.alloc(FRAME, 0x42));
    assert.equal(await driver.transfer(7, ALL), OK);
    assert.equal(await driver.flush(7, ALL), OK);
    assert.ok(
      rig.device.screens
        .get("0")!
        .pixels()
        .every((each) => (each & 0xffffff) === 0x424242),
    );
    assert.equal(await driver.detach(7), OK);
    assert.equal(await driver.transfer3d(spec.VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D, 7, ALL), UNSPEC);
  });

  test("a picture that is drawn is a pointer, too", async (t) => {
    const { rig, driver } = await shown(t);
    const display = await rig.display(driver.frontEnd);
    assert.equal(await driver.create3d(picture(8, spec.VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, 64, 64)), OK);
    assert.equal(await driver.attachTo(1, 8), OK);
    const commands = clearCommands(10, 8, spec.VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, [0, 1, 0, 1]);
    assert.equal((await driver.submit(1, commands)).type, OK);
    assert.equal(await driver.cursor(spec.VIRTIO_GPU_CMD_UPDATE_CURSOR, { x: 3, y: 4, id: 8 }), OK);
    await until(
      () => display.cursors.get(0)?.pixels?.every((each) => each === 0xff00ff00),
      "the pointer is green",
    );
    assert.equal(await driver.cursor(spec.VIRTIO_GPU_CMD_UPDATE_CURSOR, { id: 7 }), INVALID);
  });

  test("fences are answered in the order of their commands", async (t) => {
    const { driver } = await shown(t);
    const flush = [0, 0, WIDTH, HEIGHT, 7, 0];
    const posted = Array.from({ length: 20 }, (_, i) =>
      i % 3 === 2
        ? driver.post(spec.VIRTIO_GPU_CMD_RESOURCE_FLUSH, words(...flush), 24, BigInt(i + 1))
        : driver.postSubmit(1, clearCommands(100 + i, 7, FORMAT, [0, 0, 1, 1]), BigInt(i + 1)),
    );
    await driver.answered(posted.at(-1)!);
    for (const each of posted) {
      assert.ok(each.used, "one is answered before one that came earlier");
      assert.equal((await driver.answered(each)).type, OK);
    }
  });

  test("what is garbage, or is gone, is refused, and the rest goes on", async (t) => {
    const { rig, driver } = await shown(t);
    assert.equal((await driver.submit(9, Buffer.alloc(8))).type, NO_CONTEXT);
    assert.equal((await driver.submit(1, Buffer.alloc(6))).type, INVALID);
    assert.equal((await driver.submit(1, Buffer.alloc(64, 0xff))).type, INVALID);
    assert.equal(await driver.tell3d(spec.VIRTIO_GPU_CMD_SUBMIT_3D, 1, MOST - 3, 0), INVALID);
    assert.equal(await driver.createContext(0), NO_CONTEXT);
    assert.equal(await driver.createContext(1), NO_CONTEXT);
    for (const [at, number] of [
      [4, 0],
      [4, 16385],
      [5, MOST],
      [6, 2049],
      [7, MOST],
      [8, 16],
      [9, MOST],
    ] as const) {
      const args = picture(20, FORMAT, 8, 8);
      args[at] = number;
      assert.equal(await driver.create3d(args), INVALID, `${number} at ${at}`);
    }
    assert.equal(await driver.create3d(picture(0, FORMAT, 8, 8)), NO_RESOURCE);
    assert.equal(await driver.create3d(picture(7, FORMAT, 8, 8)), NO_RESOURCE);
    assert.equal(await driver.create3d(picture(20, FORMAT, 16384, 16384)), OUT_OF_MEMORY);
    // Formats that there are not are the renderer's to refuse.
    assert.equal(await driver.create3d(picture(20, 0x7fff_ffff, 8, 8)), INVALID);
    assert.equal(await driver.attachTo(1, 99), NO_RESOURCE);
    assert.equal(await driver.unref(7), OK);
    assert.equal(rig.device.screens.size, 0);
    for (const kind of [spec.VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D, spec.VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D])
      assert.equal(await driver.transfer3d(kind, 7, ALL), NO_RESOURCE);
    assert.equal(await driver.flush(7, ALL), NO_RESOURCE);
    // Context 1 has seen garbage, and is of no use any more; another one is.
    assert.equal(await driver.createContext(2), OK);
    assert.equal((await driver.submit(2, clearCommands(10, 7, FORMAT, [1, 1, 1, 1]))).type, INVALID);
    assert.equal(await driver.createContext(3), OK);
    assert.equal(await driver.create3d(picture(8, FORMAT, WIDTH, HEIGHT)), OK);
    assert.equal(await driver.attachTo(3, 8), OK);
    assert.equal((await driver.submit(3, clearCommands(10, 8, FORMAT, [1, 1, 1, 1]))).type, OK);
    for (let context = 4; context <= 64; context++)
      assert.equal(await driver.createContext(context), OK, `${context}`);
    assert.equal(await driver.createContext(65), OUT_OF_MEMORY);
  });

  test("a reset leaves nothing, and a driver that comes after it draws again", async (t) => {
    const { rig, driver } = await shown(t);
    await driver.frontEnd.resetDevice();
    assert.equal(rig.device.facts.status.resources!.count, 0);
    await drawsAnew(rig, driver);
  });

  test("a renderer that dies takes three dimensions with it, and nothing else", async (t) => {
    const { rig, driver } = await shown(t);
    process.kill(rendererOf(rig), "SIGABRT");
    await until(() => rig.device.facts.status.gpu!.renderer === "ended", "the end is seen");
    assert.equal((await driver.submit(1, Buffer.alloc(8), 5n)).type, NO_CONTEXT);
    assert.equal(await driver.createContext(2), UNSPEC);
    assert.equal(await driver.flush(7, ALL), UNSPEC);
    await driver.draw(1, FORMAT, 8, 8, Buffer.alloc(256, 0x11));
    assert.equal(await driver.show(0, 1, { x: 0, y: 0, width: 8, height: 8 }), OK);
    assert.equal(rig.device.screens.get("0")!.pixels()[0], 0xff111111);
  });

  test("a renderer that has died is started anew for a driver's next life", async (t) => {
    const { rig, driver } = await shown(t);
    const first = rendererOf(rig);
    process.kill(first, "SIGABRT");
    await until(() => rig.device.facts.status.gpu!.renderer === "ended", "the end is seen");
    // Not at once: a guest that ends it again and again has none for the most part.
    const hasAnother = async () => {
      await driver.frontEnd.resetDevice();
      await sleep(100);
      return rendererOf(rig) > 0;
    };
    await until(hasAnother, "another renderer", 60_000);
    await drawsAnew(rig, driver);
  });

  test("commands that a renderer had when it stopped for good are answered", async (t) => {
    const { rig, driver } = await shown(t);
    const pid = rendererOf(rig);
    process.kill(pid, "SIGSTOP");
    const posted = [1, 2, 3].map((id) =>
      driver.postSubmit(1, clearCommands(10 + id, 7, FORMAT, [0, 0, 1, 1]), BigInt(id)),
    );
    process.kill(pid, "SIGKILL");
    for (const each of posted) {
      const { type } = await driver.answered(each);
      assert.ok(type === UNSPEC || type === NO_CONTEXT, type.toString(16));
    }
  });

  test("a pause waits for what is drawn, and no longer than it may", async (t) => {
    const { rig, driver } = await shown(t);
    const pid = rendererOf(rig);
    const base = await driver.frontEnd.stopQueue(CONTROL);
    await driver.frontEnd.startQueue(CONTROL, base);
    assert.equal((await driver.submit(1, clearCommands(10, 7, FORMAT, [0, 1, 0, 1]), 1n)).type, OK);
    process.kill(pid, "SIGSTOP");
    const posted = [2, 3].map((id) =>
      driver.postSubmit(1, clearCommands(10 + id, 7, FORMAT, [0, 0, 1, 1]), BigInt(id)),
    );
    const stopped = await driver.frontEnd.stopQueue(CONTROL);
    // The one that it was at is answered; the other one is taken again.
    assert.equal((await driver.answered(posted[0]!)).type, UNSPEC);
    process.kill(pid, "SIGCONT");
    await driver.frontEnd.startQueue(CONTROL, stopped);
    assert.equal((await driver.answered(posted[1]!)).type, OK);
  });

  test("any commands are answered, whatever becomes of the renderer, and leave nothing", async (t) => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    t.diagnostic(`seed ${seed}`);
    const random = new Random(seed);
    const { rig, driver } = await shown(t);
    const good = clearCommands(10, 7, FORMAT, [0, 1, 0, 1]);
    for (let i = 0; i < 1500; i++) {
      if (i % 50 === 0) for (const context of [1, 2, 3]) await driver.createContext(context);
      if (i % 3 > 0) {
        assert.ok((await driver.raw(anyGpuRequest(random), 64)).length >= spec.GPU_HEADER_SIZE);
        continue;
      }
      // Commands of which some words are others.
      const bad = Buffer.from(good);
      for (let n = random.below(4); n >= 0; n--)
        bad.writeUInt32LE(random.pick([0, 1, 7, 64, MOST, 0x40000]), random.below(bad.length / 4) * 4);
      await driver.submit(1 + random.below(3), bad, random.below(2) === 0 ? BigInt(i) : undefined);
    }
    await driver.frontEnd.resetDevice();
    const { count, bytes } = rig.device.facts.status.resources!;
    assert.deepEqual([count, bytes, rig.device.facts.status.gpu!.contexts], [0, 0, 0]);
    t.diagnostic(`the renderer: ${rig.device.facts.status.gpu!.renderer}`);
  });
});
