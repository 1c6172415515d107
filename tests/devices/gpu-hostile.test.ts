// What a hostile or careless driver tells a GPU device: it gets an error for it, nobody else does, and nothing of it stays.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as spec from "../../assembly/spec/virtio-gpu.ts";
import { limitTests } from "../support/bounded-test.ts";
import { type Area, CONTROL, GpuDriver, request, words } from "../support/gpu-driver.ts";
import { gpuRig } from "../support/gpu-rig.ts";

limitTests(300_000);

const {
  VIRTIO_GPU_RESP_OK_NODATA: OK,
  VIRTIO_GPU_RESP_ERR_UNSPEC: UNSPEC,
  VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY: OUT_OF_MEMORY,
  VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID: NO_SCANOUT,
  VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID: NO_RESOURCE,
  VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER: INVALID,
  VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM: PLAIN,
} = spec;

const SIDE = 64;
const ALL: Area = { x: 0, y: 0, width: SIDE, height: SIDE };
const FRAME = SIDE * SIDE * 4;
const MOST = 0xffff_ffff;

const statusOf = (rig: Awaited<ReturnType<typeof gpuRig>>) => rig.device.facts.status.resources!;

/** Resource 1, of 64 x 64 pixels with memory behind it. */
async function drawn(rig: Awaited<ReturnType<typeof gpuRig>>) {
  const driver = await rig.connect();
  const gpa = await driver.draw(1, PLAIN, SIDE, SIDE, Buffer.alloc(FRAME, 0x11));
  return { driver, gpa };
}

test("sizes, formats and numbers that no resource has are refused", async (t) => {
  const rig = await gpuRig(t);
  const driver = await rig.connect();
  for (const [width, height] of [
    [0, 8],
    [8, 0],
    [0, 0],
    [16385, 1],
    [1, 16385],
    [MOST, MOST],
    [0x10000, 0x10000],
    [0x8000_0000, 2],
  ])
    assert.equal(await driver.create(1, PLAIN, width!, height!), INVALID, `${width}x${height}`);
  for (const format of [0, 5, 66, 120, 133, 135, MOST])
    assert.equal(await driver.create(1, format, 8, 8), INVALID, `${format}`);
  assert.equal(await driver.create(0, PLAIN, 8, 8), NO_RESOURCE);
  assert.equal(await driver.create(MOST, PLAIN, 8, 8), OK);
  assert.equal(await driver.create(MOST, PLAIN, 8, 8), NO_RESOURCE);
  assert.deepEqual(statusOf(rig).count, 1);
});

test("rectangles must lie within their resource, whatever their sums wrap to", async (t) => {
  const { driver } = await drawn(await gpuRig(t));
  const outside: Area[] = [
    { ...ALL, x: 1 },
    { ...ALL, y: 1 },
    { ...ALL, width: SIDE + 1 },
    { ...ALL, height: SIDE + 1 },
    { x: MOST, y: 0, width: 2, height: 1 },
    { x: 0, y: MOST, width: 1, height: 2 },
    { x: 0, y: 0, width: MOST, height: 1 },
    { x: 1, y: 1, width: MOST, height: MOST },
    { x: MOST, y: MOST, width: MOST, height: MOST },
    { x: 0x8000_0000, y: 0, width: 0x8000_0001, height: 1 },
  ];
  for (const area of outside) {
    assert.equal(await driver.show(0, 1, area), INVALID);
    assert.equal(await driver.flush(1, area), INVALID);
    assert.equal(await driver.transfer(1, area), INVALID);
  }
  for (const [width, height] of [
    [0, SIDE],
    [SIDE, 0],
  ] as const)
    assert.equal(await driver.show(0, 1, { ...ALL, width, height }), INVALID);
  // Nothing is no harm.
  assert.equal(await driver.flush(1, { x: SIDE, y: SIDE, width: 0, height: 0 }), OK);
  assert.equal(await driver.transfer(1, { x: 0, y: 0, width: 0, height: 0 }), OK);
});

test("offsets must leave all that is read within the backing", async (t) => {
  const { driver } = await drawn(await gpuRig(t));
  const last = { x: SIDE - 1, y: SIDE - 1, width: 1, height: 1 };
  assert.equal(await driver.transfer(1, last, FRAME - 4), OK);
  for (const offset of [FRAME - 3, FRAME, 2 ** 32, 2n ** 63n, 2n ** 64n - 4n, 2n ** 64n - BigInt(FRAME)])
    assert.equal(await driver.transfer(1, last, offset), INVALID, `${offset}`);
  assert.equal(await driver.transfer(1, ALL, 4), INVALID);
  // Rows are as far apart as the resource's own.
  const column = { x: 0, y: 0, width: 1, height: SIDE };
  assert.equal(await driver.transfer(1, column, (SIDE - 1) * 4), OK);
  assert.equal(await driver.transfer(1, column, SIDE * 4), INVALID);
});

test("backing must be the guest's memory, in as many entries as the request has", async (t) => {
  const rig = await gpuRig(t);
  const { driver, gpa } = await drawn(rig);
  assert.equal(await driver.attach(1, [{ gpa, length: FRAME }]), UNSPEC);
  assert.equal(await driver.detach(1), OK);
  assert.equal(await driver.transfer(1, ALL), UNSPEC);
  const { gpa: begin, byteLength } = driver.frontEnd.memory.regions[0]!;
  for (const [at, length] of [
    [0, 4096],
    [begin - 1, 2],
    [begin + byteLength, 1],
    [begin + byteLength - 4096, 4097],
    [begin, MOST],
    [2n ** 64n - 4096n, 8192],
    [2n ** 64n - 1n, 1],
  ] as const) {
    assert.equal(
      await driver.attach(1, [
        { gpa, length: 64 },
        { gpa: at, length },
      ]),
      INVALID,
      `${at}`,
    );
  }
  for (const count of [2, 16385, 0x1000_0000, 0x1000_0001, MOST])
    assert.equal(await driver.attach(1, [{ gpa, length: FRAME }], count), INVALID, `${count}`);
  assert.equal(await driver.attach(1, []), OK);
  assert.equal(await driver.transfer(1, ALL), INVALID);
  assert.equal(await driver.detach(1), OK);
  assert.equal(
    await driver.attach(1, [
      { gpa, length: 0 },
      { gpa, length: FRAME },
    ]),
    OK,
  );
  assert.equal(await driver.transfer(1, ALL), OK);
});

test("what is gone is no resource", async (t) => {
  const { driver, gpa } = await drawn(await gpuRig(t));
  assert.equal(await driver.show(0, 1, ALL), OK);
  assert.equal(await driver.unref(1), OK);
  assert.equal(await driver.unref(1), NO_RESOURCE);
  assert.equal(await driver.transfer(1, ALL), NO_RESOURCE);
  assert.equal(await driver.flush(1, ALL), NO_RESOURCE);
  assert.equal(await driver.show(0, 1, ALL), NO_RESOURCE);
  assert.equal(await driver.attach(1, [{ gpa, length: FRAME }]), NO_RESOURCE);
  assert.equal(await driver.detach(1), NO_RESOURCE);
  assert.equal(await driver.show(0, 0, ALL), OK);
  for (const scanout of [1, 16, MOST]) assert.equal(await driver.show(scanout, 0, ALL), NO_SCANOUT);
});

test("10,000 resources are counted, and leave nothing", async (t) => {
  const rig = await gpuRig(t);
  const driver = await rig.connect();
  const before = statusOf(rig);
  assert.deepEqual([before.count, before.bytes], [0, 0]);
  for (let begin = 1; begin <= 10_000; begin += 25) {
    const posted = Array.from({ length: 25 }, (_, i) =>
      driver.post(spec.VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, words(begin + i, PLAIN, 8, 8), 24),
    );
    for (const each of posted) assert.equal((await driver.answered(each)).type, OK);
  }
  assert.equal(statusOf(rig).count, 10_000);
  assert.ok(Number(statusOf(rig).bytes) >= 10_000 * 256);
  assert.equal(rig.device.facts.gauges[0]!.value, 10_000);
  await driver.frontEnd.resetDevice();
  assert.deepEqual([statusOf(rig).count, statusOf(rig).bytes], [0, 0]);
});

test("pictures, and what lies behind them, take no more memory than they may", async (t) => {
  const rig = await gpuRig(t, { maxMemory: 1 << 20 });
  const driver = await rig.connect();
  assert.equal(await driver.create(1, PLAIN, 512, 512), OUT_OF_MEMORY);
  assert.equal(await driver.create(1, PLAIN, 512, 500), OK);
  assert.equal(await driver.create(2, PLAIN, 16384, 16384), OUT_OF_MEMORY);
  const gpa = driver.frontEnd.memory.allocate(4096);
  const scattered = Array.from({ length: 1000 }, (_, i) => ({ gpa: gpa + (i % 2) * 2048, length: 4 }));
  assert.equal(await driver.attach(1, scattered), OUT_OF_MEMORY);
  assert.equal(await driver.unref(1), OK);
  for (let id = 1; id <= 100; id++) {
    assert.equal(await driver.create(id, PLAIN, 512, 500), OK);
    assert.equal(await driver.unref(id), OK);
  }
  assert.equal(statusOf(rig).bytes, 0);
  let small = 0;
  while ((await driver.create(small + 1, PLAIN, 1, 1)) === OK) small++;
  assert.ok(small > 900 && small < 1024, `${small} resources of a pixel`);
});

test("requests that end too early, and answers without room, are answered as far as they go", async (t) => {
  const { driver, gpa } = await drawn(await gpuRig(t));
  const bodies: [type: number, body: Buffer][] = [
    [spec.VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, words(9, PLAIN, 8, 8)],
    [spec.VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, words(0, 0, 8, 8, 0n, 1)],
    [spec.VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, words(1, 1, BigInt(gpa), 4096, 0)],
    [spec.VIRTIO_GPU_CMD_GET_EDID, words(0)],
  ];
  for (const [type, body] of bodies) {
    const bytes = request(type, body);
    for (let length = 1; length < bytes.length; length++) {
      const answer = await driver.raw(bytes.subarray(0, length), 24);
      assert.equal(answer.readUInt32LE(0), UNSPEC, `${length} bytes of 0x${type.toString(16)}`);
    }
  }
  const info = request(spec.VIRTIO_GPU_CMD_GET_DISPLAY_INFO, Buffer.alloc(0));
  for (const room of [1, 3, 24, 100, 408, 4096])
    assert.equal((await driver.raw(info, room)).length, Math.min(room, spec.GPU_DISPLAY_INFO_SIZE));
  for (const type of [0, 0xff, 0x10b, 0x10c, 0x200, 0x207, 0x300, 0x1100, MOST])
    assert.equal((await driver.ask(type)).type, UNSPEC, type.toString(16));
  for (const type of [spec.VIRTIO_GPU_CMD_GET_CAPSET_INFO, spec.VIRTIO_GPU_CMD_GET_CAPSET])
    assert.equal((await driver.ask(type, words(0, 0))).type, INVALID);
});

test("memory that goes is not read, and memory that comes is", async (t) => {
  const layout = [
    { gpa: 0x1_0000_0000, byteLength: 16 << 20, userAddress: 0x7f5a_c000_0000 },
    { gpa: 0x2_0000_0000, byteLength: 1 << 20, userAddress: 0x7f6a_c000_0000 },
  ];
  const rig = await gpuRig(t);
  const driver = await rig.connect({ memory: layout });
  const { frontEnd } = driver;
  const display = await rig.display(frontEnd);
  const plugged = frontEnd.memory.regions[1]!;
  const gpa = frontEnd.memory.allocate(FRAME, 1);
  frontEnd.memory.write(gpa, Buffer.alloc(FRAME, 0x22));
  await driver.create(1, PLAIN, SIDE, SIDE);
  assert.equal(await driver.attach(1, [{ gpa, length: FRAME }]), OK);
  assert.equal(await driver.transfer(1, ALL), OK);
  await driver.show(0, 1, ALL);
  await display.shows(0, SIDE, SIDE, () => 0x222222);
  assert.equal(await frontEnd.remMemReg(plugged.description), 0n);
  assert.equal(await driver.transfer(1, ALL), INVALID);
  await driver.flush(1, ALL);
  await display.shows(0, SIDE, SIDE, () => 0x222222);
  assert.equal(await frontEnd.addMemReg(plugged.description, plugged.fd), 0n);
  frontEnd.memory.write(gpa, Buffer.alloc(FRAME, 0x33));
  assert.equal(await driver.transfer(1, ALL), OK);
  await driver.flush(1, ALL);
  await display.shows(0, SIDE, SIDE, () => 0x333333);
});

test("nothing of a driver outlives its reset, nor its front-end", async (t) => {
  const rig = await gpuRig(t);
  const { driver } = await drawn(rig);
  const display = await rig.display(driver.frontEnd);
  await driver.show(0, 1, ALL);
  await display.shows(0, SIDE, SIDE, () => 0x111111);
  assert.deepEqual([...rig.device.screens.keys()], ["0"]);
  await driver.frontEnd.resetDevice();
  assert.deepEqual([statusOf(rig).count, rig.device.screens.size], [0, 0]);
  assert.equal(await driver.frontEnd.setFeatures(driver.frontEnd.features), 0n);
  await driver.frontEnd.renewQueue(CONTROL);
  const again = new GpuDriver(driver.frontEnd);
  await again.draw(1, PLAIN, SIDE, SIDE, Buffer.alloc(FRAME, 0x44));
  await again.show(0, 1, ALL);
  await display.shows(0, SIDE, SIDE, () => 0x444444);
  driver.frontEnd.close();
  const next = await rig.connect();
  assert.deepEqual([statusOf(rig).count, rig.device.screens.size], [0, 0]);
  assert.equal(await next.create(1, PLAIN, SIDE, SIDE), OK);
});

test("a pause changes nothing", async (t) => {
  const rig = await gpuRig(t);
  const { driver } = await drawn(rig);
  await driver.show(0, 1, ALL);
  const base = await driver.frontEnd.stopQueue(CONTROL);
  await driver.frontEnd.startQueue(CONTROL, base);
  assert.equal(await driver.flush(1, ALL), OK);
  assert.deepEqual([...rig.device.screens.keys()], ["0"]);
});
