// `vringd probe`: what it tells of back-ends of all kinds, and of what is none.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { openConnection } from "../../host/front-end/requests.ts";
import { close } from "../../host/linux/libc.ts";
import { connectUnix, listenUnix } from "../../host/linux/unix-socket.ts";
import { encodeConfig } from "../../host/protocol/codec.ts";
import * as m from "../../host/protocol/messages.ts";
import { textWidth } from "../../host/toolbox/terminal.ts";
import { BackendFiles } from "../support/backend-files.ts";
import { allHaveLeft } from "../support/footprint.ts";
import { isListening } from "../support/listening.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { StorageDaemon } from "../support/storage-daemon.ts";
import { numbers, StubBackEnd } from "../support/stub-back-end.ts";
import { onTerminal, toolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";
import { PROGRAM, Vringd } from "../support/vringd.ts";

const IMAGE_SIZE = 8 << 20;

/** Long where an answer comes, short where none does. */
const PATIENT = ["--timeout=60"];
const HASTY = ["--timeout=1"];

const files = new BackendFiles();
after(() => files[Symbol.dispose]());

async function probeJson(socketPath: string) {
  const { status, stdout, stderr } = await toolbox(["probe", socketPath, "--json", ...PATIENT]);
  assert.equal(stderr, "");
  assert.equal(status, 0);
  return JSON.parse(stdout);
}

async function assertRefused(socketPath: string, sentence: RegExp, options = PATIENT): Promise<void> {
  const { status, stdout, stderr } = await toolbox(["probe", socketPath, ...options]);
  assert.match(stderr, /^vringd: [^\n]*\n$/);
  assert.match(stderr, sentence);
  assert.equal(stdout, "");
  assert.equal(status, 1);
}

describe("probe", { timeout: 120_000 }, () => {
  let daemon: Vringd;

  before(async () => {
    const args = [
      "--serial=serial number 1",
      "--num-queues=3",
      "--queue-size=64",
      "--block-size=4096",
      "--packed",
      "--log-level=debug",
    ];
    daemon = await Vringd.start({ byteLength: IMAGE_SIZE, args });
  });
  after(() => daemon[Symbol.asyncDispose]());

  test("tells all of vringd-blk", async () => {
    const { features, protocolFeatures, ...rest } = await probeJson(daemon.socketPath);
    assert.deepEqual(rest, {
      socket: daemon.socketPath,
      queueCount: 3,
      maxMemorySlots: 509,
      inflight: true,
      serial: "serial number 1",
      serialUnknown: null,
      disk: {
        capacitySectors: IMAGE_SIZE / 512,
        capacityBytes: IMAGE_SIZE,
        readOnly: false,
        blockSize: 4096,
        physicalBlockSize: 4096,
        alignmentOffset: 0,
        minimumIoSize: 4096,
        optimalIoSize: 0,
        sizeMax: 1 << 20,
        segMax: 62,
        numQueues: 3,
        flush: true,
        writeCache: "writeback",
        canSetWriteCache: true,
        discard: { maxSectors: 0x3ffff8, maxSegments: 1, alignmentSectors: 8 },
        writeZeroes: { maxSectors: 0x3ffff8, maxSegments: 1, mayUnmap: true },
      },
    });
    assert.equal(features.mask, "0x574007e46");
    assert.ok(features.names.includes("VIRTIO_F_RING_PACKED"));
    assert.ok(features.names.includes("VIRTIO_BLK_F_WRITE_ZEROES"));
    assert.ok(protocolFeatures.names.includes("VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD"));
  });

  test("neither reads nor writes the disk, and leaves it to the next", async () => {
    const image = Buffer.alloc(IMAGE_SIZE, "not to be touched");
    writeFileSync(daemon.imagePath, image);
    await toolbox(["probe", daemon.socketPath, ...PATIENT]);
    await allHaveLeft(daemon);
    const { reads, writes, ids } = countersOf(daemon);
    assert.deepEqual({ reads, writes, ids }, { reads: "0", writes: "0", ids: "1" });
    assert.ok(readFileSync(daemon.imagePath).equals(image));
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    assert.equal((await frontEnd.disk().read(0, 1)).toString("latin1", 0, 3), "not");
  });

  for (const columns of [80, 200]) {
    test(`fits a terminal of ${columns} columns`, async () => {
      const { status, stdout } = await onTerminal(columns, ["probe", daemon.socketPath, ...PATIENT]);
      const lines = stdout.trimEnd().split("\r\n");
      for (const line of lines) assert.ok(textWidth(line) <= columns, line);
      assert.match(stdout, /^capacity +8 MiB \(16384 sectors of 512 bytes\)\r$/m);
      assert.match(stdout, /^serial +serial number 1\r$/m);
      assert.match(stdout, /VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD/);
      assert.equal(status, 0);
    });
  }

  test("tells all but the serial number while another front-end is served", async () => {
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    const { status, stdout, stderr } = await toolbox(["probe", daemon.socketPath, "--timeout=8"]);
    assert.equal(stderr, "");
    assert.equal(status, 0);
    assert.match(stdout, /^capacity +8 MiB/m);
    assert.match(
      stdout.replace(/\n +/g, " "),
      /^serial +not known: no queue could be started, perhaps since another front-end is served: /m,
    );
    assert.equal((await frontEnd.disk().read(0, 1)).length, 512);
  });
});

test("probe tells a read-only disk from others", { timeout: 60_000 }, async () => {
  await using daemon = await Vringd.start({ args: ["--read-only"] });
  const { disk, serial } = await probeJson(daemon.socketPath);
  assert.equal(disk.readOnly, true);
  assert.equal(disk.discard, null);
  assert.equal(disk.writeZeroes, null);
  assert.match(serial!, /^[0-9a-f]{20}$/);
});

const skip = skipWithout(whyNoProgram("qemu-storage-daemon"));

test("probe tells all of qemu-storage-daemon", { skip, timeout: 60_000 }, async () => {
  const image = files.write("qsd.img", Buffer.alloc(IMAGE_SIZE, "untouched"));
  const socketPath = files.path("qsd.sock");
  await using _daemon = StorageDaemon.start({ image, socketPath });
  (await openConnection(socketPath)).close();
  const { disk, serial, queueCount, inflight, maxMemorySlots, features } = await probeJson(socketPath);
  assert.equal(disk.capacitySectors, IMAGE_SIZE / 512);
  assert.equal(disk.numQueues, 2);
  assert.equal(disk.readOnly, false);
  assert.deepEqual(
    { serial, queueCount, inflight },
    { serial: "vhost_user_blk", queueCount: 2, inflight: false },
  );
  assert.ok(maxMemorySlots >= 8);
  assert.ok(features.names.includes("VIRTIO_BLK_F_FLUSH"));
  assert.ok(readFileSync(image).equals(Buffer.alloc(IMAGE_SIZE, "untouched")));
});

const GPU = "/usr/lib/qemu/vhost-user-gpu";

test("probe finds that QEMU's vhost-user-gpu is no disk, and tells what it says of itself", {
  skip: skipWithout(!existsSync(GPU) && `no ${GPU}`),
}, async () => {
  const socketPath = files.path("gpu.sock");
  const gpu = spawn(GPU, ["-s", socketPath], { stdio: "ignore" });
  try {
    await until(() => isListening(socketPath), "it listens");
    const report = await probeJson(socketPath);
    assert.equal(report.disk, null);
    assert.equal(report.noDisk, "it offers no feature of a disk");
    assert.deepEqual(report.mayBe, []);
    // Four fields of 4 bytes (virtio 1.4, 5.7.4), and in later releases more.
    assert.match(report.config, /^([0-9a-f]{8}){4,}$/);
  } finally {
    gpu.kill();
  }
});

const PROTOCOL = 1n << BigInt(m.VHOST_USER_F_PROTOCOL_FEATURES);
const CONFIG = 1n << BigInt(m.VHOST_USER_PROTOCOL_F_CONFIG);
const RO = 1n << 5n;

/** 60 bytes, all the same: no fields that mean anything. */
const configOf = (byte: number) => encodeConfig({ offset: 0, flags: 0, bytes: Buffer.alloc(60, byte) });

test("probe names what it knows and numbers what it doesn't, where no ring can be started", async () => {
  await using stub = await StubBackEnd.answering((request) => {
    if (request === m.VHOST_USER_GET_CONFIG) return configOf(1);
    return numbers({
      [m.VHOST_USER_GET_FEATURES]: PROTOCOL | RO | (1n << 32n) | (1n << 50n) | (1n << 63n),
      [m.VHOST_USER_GET_PROTOCOL_FEATURES]: CONFIG | (1n << 41n),
    })(request, Buffer.alloc(0));
  });
  const { status, stdout } = await toolbox(["probe", stub.socketPath, "--json", "--timeout=2"]);
  assert.equal(status, 0);
  const report = JSON.parse(stdout);
  assert.deepEqual(report.features, {
    mask: "0x8004000140000020",
    names: ["VIRTIO_BLK_F_RO", "VHOST_USER_F_PROTOCOL_FEATURES", "VIRTIO_F_VERSION_1", "bit 50", "bit 63"],
  });
  assert.deepEqual(report.protocolFeatures.names, ["VHOST_USER_PROTOCOL_F_CONFIG", "bit 41"]);
  assert.equal(report.serial, null);
  assert.match(report.serialUnknown, /the request did not finish/);
  assert.equal(report.maxMemorySlots, null);
  assert.equal(report.disk.blockSize, null);
});

/** Answers of a device with these features, whose configuration space has as many bytes, all the same. */
const deviceOf =
  (features: bigint, byteLength: number, byte: number) => (request: number, payload: Buffer) => {
    if (request === m.VHOST_USER_GET_CONFIG) {
      const size = payload.readUInt32LE(4);
      if (size > byteLength) return Buffer.alloc(0);
      return encodeConfig({ offset: 0, flags: 0, bytes: Buffer.alloc(size, byte) });
    }
    return numbers({
      [m.VHOST_USER_GET_FEATURES]: features,
      [m.VHOST_USER_GET_PROTOCOL_FEATURES]: CONFIG,
    })(request, payload);
  };

for (const [type, program, args, features] of [
  ["rng", "vringd-rng", [], []],
  ["gpio", "vringd-gpio", ["--lines=led,button"], ["GPIO_F_IRQ"]],
  ["gpu", "vringd-gpu", [], ["GPU_F_EDID"]],
  ["i2c", "vringd-i2c", ["--emulate=lm75:0x48"], ["I2C_F_ZERO_LENGTH_REQUEST"]],
  [
    "console",
    "vringd-console",
    ["--port=a=pty:A", "--port=b=pty:B"],
    ["SIZE", "MULTIPORT", "EMERG_WRITE"].map((name) => `CONSOLE_F_${name}`),
  ],
  ["input", "vringd-input", ["--mouse"], []],
  [
    "vsock",
    "vringd-vsock",
    ["--uds-path=A"],
    ["STREAM", "SEQPACKET", "NO_IMPLIED_STREAM"].map((name) => `VSOCK_F_${name}`),
  ],
] as const) {
  test(`probe takes ${program} for what it is`, { timeout: 240_000 }, async () => {
    const socketPath = files.path(`${type}.sock`);
    const given = args.map((arg) => arg.replace(/[AB]$/, (name) => files.path(name)));
    const child = spawn(
      process.execPath,
      [join(dirname(PROGRAM), `${program}.mjs`), `--socket-path=${socketPath}`, ...given],
      { stdio: "ignore" },
    );
    try {
      (await openConnection(socketPath)).close();
      const report = await probeJson(socketPath);
      assert.deepEqual([report.disk, report.mayBe], [null, [type]]);
      for (const name of features) assert.ok(report.features.names.includes(`VIRTIO_${name}`), name);
      for (const columns of [60, 80, 200]) {
        const { stdout } = await onTerminal(columns, ["probe", socketPath, ...PATIENT]);
        // A single name may be longer than that.
        const lines = stdout
          .trimEnd()
          .split("\r\n")
          .filter((line) => line.trim().includes(" "));
        for (const line of lines) assert.ok(textWidth(line) <= columns, line);
        assert.match(stdout, new RegExp(`^type +not told; it looks like ${type}\r$`, "m"));
      }
    } finally {
      child.kill();
    }
  });
}

for (const [what, answer, noDisk, config] of [
  [
    "no configuration space",
    deviceOf((1n << 32n) | (1n << 23n), 0, 0),
    "it gives no configuration space",
    null,
  ],
  [
    "a configuration that it won't tell",
    deviceOf(PROTOCOL | 2n, 0, 0),
    "it gives no configuration space",
    null,
  ],
  ["a short configuration", deviceOf(PROTOCOL, 13, 0xab), "it offers no feature of a disk", "ab".repeat(12)],
  [
    "a configuration that no disk can have",
    deviceOf(PROTOCOL | (1n << 6n), 60, 3),
    "its block size would be 50529027",
    "03".repeat(60),
  ],
] as const) {
  test(`probe tells what there is of a device that has ${what}`, { timeout: 60_000 }, async () => {
    await using stub = await StubBackEnd.answering(answer);
    const report = await probeJson(stub.socketPath);
    assert.deepEqual([report.disk, report.noDisk, report.config], [null, noDisk, config]);
    assert.deepEqual(report.mayBe, []);
    assert.ok(!stub.requests.includes(m.VHOST_USER_SET_VRING_KICK), "no ring is started");
    const { stdout } = await toolbox(["probe", stub.socketPath, ...PATIENT]);
    assert.match(stdout, new RegExp(`^device +no disk: ${noDisk}$`, "m"));
    assert.match(stdout, /^type +unknown$/m);
  });
}

const strangers: [what: string, make: () => Promise<StubBackEnd>, sentence: RegExp, options?: string[]][] = [
  [
    "accepts and says nothing",
    () => StubBackEnd.listen(() => {}),
    /got no answer in 1 s: another front-end may be connected, and a back-end serves one at a time/,
    HASTY,
  ],
  ["hangs up", () => StubBackEnd.listen((socket) => socket.end()), /hung up instead of answering/],
  [
    "answers as a web server does",
    () => StubBackEnd.listen((socket) => socket.write("HTTP/1.1 400 Bad Request\r\n\r\n")),
    /is no vhost-user back-end/,
  ],
  [
    "answers with noise",
    () => StubBackEnd.listen((socket) => socket.write(Buffer.alloc(4096, 0xa5))),
    /is no vhost-user back-end/,
  ],
  [
    "sends half a message and waits",
    () => StubBackEnd.listen((socket) => socket.write(Buffer.from([1, 0, 0, 0, 5]))),
    /got no answer in 1 s/,
    HASTY,
  ],
  [
    "stops answering half-way",
    () => StubBackEnd.answering(numbers({ [m.VHOST_USER_GET_FEATURES]: PROTOCOL })),
    /answered, but not all of it within 1 s \(--timeout\): GET_PROTOCOL_FEATURES/,
    HASTY,
  ],
];
for (const [what, make, sentence, options] of strangers) {
  test(`probe says in one sentence what is wrong with one that ${what}`, { timeout: 60_000 }, async () => {
    await using stub = await make();
    await assertRefused(stub.socketPath, sentence, options);
  });
}

test("probe says when there is no socket, none that listens, or one of another kind", async () => {
  await assertRefused(files.path("none.sock"), /there is no socket at .*none\.sock/);
  await assertRefused(files.write("file.img", "x"), /file\.img is no socket/);
  await assertRefused(`/tmp/${"x".repeat(120)}`, /longer than the 107 bytes/);
  await using daemon = await Vringd.start();
  const { socketPath } = daemon;
  const crowded = files.path("crowded.sock");
  const waiting = [listenUnix(crowded)];
  // Until its backlog is full.
  while (waiting.length < 100 && tryConnect(crowded, waiting)) {}
  await assertRefused(crowded, /others already wait to be served at /, HASTY);
  waiting.forEach(close);
  await daemon.kill9();
  await assertRefused(socketPath, /nobody listens at /);
});

test("probe refuses wrong usage with status 2", async () => {
  for (const args of [[], ["a", "b"], ["a", "--timeout=0"], ["a", "--nonsense"]]) {
    const { status, stderr } = await toolbox(["probe", ...args]);
    assert.match(stderr, /^vringd: .* \(see --help\)\n$/);
    assert.equal(status, 2);
  }
});

function tryConnect(path: string, fds: number[]): boolean {
  try {
    return fds.push(connectUnix(path)) > 0;
  } catch {
    return false;
  }
}

/** As the daemon's log tells them when a front-end has left. */
function countersOf(daemon: Vringd): Record<string, string> {
  const line = daemon.linesLike(/front-end left/).at(-1)!;
  return Object.fromEntries([...line.matchAll(/(\w+)=(\S+)/g)].map(([, name, value]) => [name, value]));
}
