// vringd-i2c at a real front-end's rings: emulated chips, groups that are done or not, buses that hang, and what it refuses.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, describe, type TestContext, test } from "node:test";
import { serve } from "vringd";
import { VIRTIO_I2C_FLAGS_M_RD } from "../../assembly/spec/virtio-i2c.ts";
import type { Bus } from "../../host/buses/bus.ts";
import { EmulatedBus } from "../../host/buses/emulated-bus.ts";
import { type EmulatedChip, emulatedChip } from "../../host/buses/target.ts";
import { I2cDevice } from "../../host/devices/i2c/device.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { Memory } from "../../host/front-end/memory.ts";
import type { I2cMessage } from "../../host/linux/i2c-dev.ts";
import { limitTests } from "../support/bounded-test.ts";
import { ChainDriver } from "../support/chain-driver.ts";
import { startDevice } from "../support/device-programs.ts";
import { connectI2c, headerOf, I2cDriver, type Message } from "../support/i2c-driver.ts";
import { tellSeed } from "../support/random.ts";
import { until } from "../support/until.ts";
import { PROGRAM } from "../support/vringd.ts";

limitTests(300_000);

const EEPROM = 0x50;
const THERMOMETER = 0x48;
const NOBODY = 0x33;
const MESSAGES_MAX = 42;
const BYTES_MAX = 8192;

const directory = mkdtempSync(join(tmpdir(), "vringd-i2c-"));
after(() => rmSync(directory, { recursive: true }));
let count = 0;
const freshPath = () => join(directory, String(count++));

/** A bus that keeps what it is told, and answers when a test lets it. */
class FakeBus implements Bus {
  readonly addresses: ReadonlyMap<number, string>;
  readonly transfers: (readonly I2cMessage[])[] = [];
  /** What each transfer waits for. */
  answer = (): Promise<void> => Promise.resolve();

  constructor(
    readonly name: string,
    ...addresses: number[]
  ) {
    this.addresses = new Map(addresses.map((address) => [address, name]));
  }

  /** What is read counts up. */
  async transfer(messages: readonly I2cMessage[]): Promise<void> {
    this.transfers.push(messages);
    await this.answer();
    for (const { isRead, bytes } of messages) if (isRead) for (let i = 0; i < bytes.length; i++) bytes[i] = i;
  }

  close(): void {}

  /** Of each message that came, where it went, and what was written. */
  get seen(): (readonly [number, string])[] {
    return this.transfers
      .flat()
      .map(({ address, isRead, bytes }) => [
        address,
        isRead ? `read ${bytes.length}` : Buffer.from(bytes).toString("hex"),
      ]);
  }
}

interface RigOptions {
  chips?: readonly EmulatedChip[];
  buses?: readonly Bus[];
  queueSize?: number;
  packed?: boolean;
}

async function rig(t: TestContext, { chips = [], buses = [], queueSize = 16, packed = false }: RigOptions) {
  const socketPath = freshPath();
  const emulated = await EmulatedBus.open(chips);
  const device = new I2cDevice({ emulated, all: [emulated, ...buses] });
  const lines: string[] = [];
  const keep = (fields: object | string, sentence?: string) => lines.push(sentence ?? String(fields));
  const log = { error: keep, warn: keep, info: () => {}, debug: () => {} };
  const server = await serve({ device, socketPath, packed, log });
  const frontEnd = await connectI2c(socketPath, { queueSize, packed });
  t.after(async () => {
    frontEnd.close();
    await server.close();
  });
  return { device, frontEnd, lines, socketPath, driver: new I2cDriver(frontEnd) };
}

function eeprom(size: number, address = EEPROM): Extract<EmulatedChip, { kind: "at24" }> {
  return { kind: "at24", address, file: freshPath(), size };
}

const thermometer = (temperature = 20): EmulatedChip => ({ kind: "lm75", address: THERMOMETER, temperature });

describe("chips that are emulated", () => {
  test("are at their addresses, and nobody is anywhere else", async (t) => {
    const { driver } = await rig(t, { chips: [eeprom(1024), thermometer()] });
    const there: number[] = [];
    for (let address = 0; address < 128; address++) if (await driver.isThere(address)) there.push(address);
    assert.deepEqual(there, [THERMOMETER, EEPROM, EEPROM + 1, EEPROM + 2, EEPROM + 3]);
    // By a read of no bytes, as by a write of none.
    assert.equal((await driver.transfer({ address: EEPROM, read: 0 }))[0]!.isOk, true);
    assert.equal((await driver.transfer({ address: NOBODY, read: 0 }))[0]!.isOk, false);
  });

  for (const size of [128, 256, 1024, 2048, 4096, 65536, 131072, 262144]) {
    test(`an EEPROM of ${size} bytes is its file, whoever writes`, async (t) => {
      const random = tellSeed(t);
      const chip = eeprom(size);
      const { driver } = await rig(t, { chips: [chip] });
      const model = Buffer.alloc(size, 0xff);
      assert.deepEqual(readFileSync(chip.file), model, "it is erased");
      const offsetBytes = size > 2048 ? 2 : 1;
      const reach = Math.min(size, 256 ** offsetBytes);
      const at = (offset: number) => {
        const bytes = Buffer.alloc(offsetBytes);
        bytes.writeUIntBE(offset % reach, 0, offsetBytes);
        return { address: EEPROM + Math.floor(offset / reach), bytes: [...bytes] };
      };
      for (let round = 0; round < 40; round++) {
        const offset = random.pick([random.below(size), size - 1, 0]);
        const data = random.bytes(1 + random.below(100));
        if (round % 4 === 3) {
          // By the host, behind the device's back.
          for (const [i, byte] of data.entries()) model[(offset + i) % size] = byte;
          writeFileSync(chip.file, model, { flag: "r+" });
        } else {
          const { address, bytes } = at(offset);
          const [answer] = await driver.transfer({ address, write: [...bytes, ...data] });
          assert.ok(answer!.isOk);
          for (const [i, byte] of data.entries()) model[(offset + i) % size] = byte;
          assert.deepEqual(readFileSync(chip.file), model);
        }
        const from = random.pick([offset, random.below(size)]);
        const length = 1 + random.below(200);
        const { address, bytes } = at(from);
        const read = await driver.exchange({ address, write: bytes }, { address, read: length });
        const wanted = Buffer.from(Array.from({ length }, (_, i) => model[(from + i) % size]!));
        assert.deepEqual(read, wanted, `${length} bytes from ${from}`);
      }
    });
  }

  test("an EEPROM goes on where it was, and takes what is too short for an offset as none", async (t) => {
    const chip = eeprom(4096);
    writeFileSync(chip.file, Buffer.from(Array.from({ length: 4096 }, (_, i) => i % 251)));
    const { driver } = await rig(t, { chips: [chip] });
    const address = EEPROM;
    assert.deepEqual(
      await driver.exchange({ address, write: [0, 5] }, { address, read: 2 }),
      Buffer.of(5, 6),
    );
    assert.deepEqual(await driver.exchange({ address, read: 2 }), Buffer.of(7, 8));
    assert.deepEqual(await driver.exchange({ address, write: [1] }, { address, read: 1 }), Buffer.of(9));
  });

  test("an EEPROM keeps its file for the next daemon, and does not touch one of another size", async (t) => {
    const chip = eeprom(256);
    const first = await EmulatedBus.open([chip]);
    await first.transfer([{ address: EEPROM, isRead: false, bytes: Uint8Array.of(3, 42) }]);
    await first.close();
    const { driver } = await rig(t, { chips: [chip] });
    assert.deepEqual(
      await driver.exchange({ address: EEPROM, write: [3] }, { address: EEPROM, read: 1 }),
      Buffer.of(42),
    );
    await assert.rejects(EmulatedBus.open([{ ...chip, size: 512 }]), {
      message: `can't keep an EEPROM in ${chip.file}: it has 256 bytes, and size=512`,
    });
    assert.equal(statSync(chip.file).size, 256);
  });

  test("a thermometer measures what it is told, to half a degree", async (t) => {
    const { driver, device } = await rig(t, { chips: [thermometer(21.5)] });
    const { run } = device.commands.temperature!;
    const measured = async () => {
      const bytes = await driver.exchange(
        { address: THERMOMETER, write: [0] },
        { address: THERMOMETER, read: 2 },
      );
      return (bytes!.readInt16BE() >> 7) / 2;
    };
    assert.equal(await measured(), 21.5);
    for (const [given, wanted] of [
      ["25.5", 25.5],
      ["-55", -55],
      ["125", 125],
      ["0.3", 0.5],
      ["-0.2", 0],
    ] as const) {
      assert.deepEqual(await run(["0x48", given]), { temperature: wanted });
      assert.equal(await measured(), wanted);
    }
    for (const args of [
      [],
      ["0x48"],
      ["0x48", "warm"],
      ["0x48", "1", "2"],
      ["0x48", "126"],
      ["0x50", "20"],
      ["x", "1"],
    ])
      assert.throws(() => run(args), RangeError, String(args));
    // Limits and configuration are the driver's own.
    await driver.transfer({ address: THERMOMETER, write: [3, 0x1e, 0x80] });
    assert.deepEqual(
      await driver.exchange({ address: THERMOMETER, write: [3] }, { address: THERMOMETER, read: 4 }),
      Buffer.of(0x1e, 0x80, 0x1e, 0x80),
    );
    await driver.transfer({ address: THERMOMETER, write: [0, 0x7f, 0x80] });
    assert.equal(await measured(), 0);
  });
});

describe("a group of requests", () => {
  test("is one transfer of its bus, and what comes behind it is another, in order", async (t) => {
    const bus = new FakeBus("fake", 0x10, 0x11);
    const { driver } = await rig(t, { buses: [bus] });
    const first = driver.postGroup([
      { address: 0x10, write: [1, 2] },
      { address: 0x11, read: 3 },
      { address: 0x10, write: [] },
    ]);
    const second = driver.postGroup([{ address: 0x11, write: [9] }]);
    const answers = await driver.answers([...first, ...second]);
    assert.deepEqual(
      answers.map(({ isOk }) => isOk),
      [true, true, true, true],
    );
    assert.deepEqual(answers[1]!.data, Buffer.of(0, 1, 2));
    assert.deepEqual(
      bus.transfers.map(({ length }) => length),
      [3, 1],
    );
    assert.deepEqual(bus.seen, [
      [0x10, "0102"],
      [0x11, "read 3"],
      [0x10, ""],
      [0x11, "09"],
    ]);
  });

  const HOPELESS: readonly [string, readonly Message[]][] = [
    ["begins where nobody is", [{ address: NOBODY }, { address: 0x10, write: [1] }]],
    [
      "ends where nobody is",
      [{ address: 0x10, write: [1] }, { address: 0x10, write: [2] }, { address: NOBODY }],
    ],
    [
      "is for two buses",
      [
        { address: 0x10, write: [1] },
        { address: 0x20, write: [1] },
      ],
    ],
    [
      "has a message that is longer than a bus takes",
      [
        { address: 0x10, write: [1] },
        { address: 0x10, read: BYTES_MAX + 1 },
      ],
    ],
    [
      "has more messages than a bus takes",
      Array.from({ length: MESSAGES_MAX + 3 }, () => ({ address: 0x10, write: [1] })),
    ],
  ];
  for (const [what, messages] of HOPELESS) {
    test(`that ${what} fails, and nothing of it is done`, async (t) => {
      const buses = [new FakeBus("fake", 0x10), new FakeBus("other", 0x20)];
      const { driver } = await rig(t, { buses, queueSize: 64 });
      const answers = await driver.transfer(...messages);
      assert.deepEqual(
        answers.filter(({ isOk }) => isOk),
        [],
      );
      assert.deepEqual(
        buses.map(({ seen }) => seen),
        [[], []],
      );
      assert.equal((await driver.exchange({ address: 0x10, read: 2 }))?.length, 2, "the next one is done");
    });
  }

  test("fails whole if its bus fails it, and the next one is done", async (t) => {
    const bus = new FakeBus("fake", 0x10);
    const { driver, lines } = await rig(t, { buses: [bus] });
    bus.answer = () => Promise.reject(new Error("no acknowledgement"));
    const answers = await driver.transfer({ address: 0x10, write: [1] }, { address: 0x10, read: 4 });
    assert.deepEqual(
      answers.map(({ isOk }) => isOk),
      [false, false],
    );
    bus.answer = () => Promise.resolve();
    assert.ok(await driver.exchange({ address: 0x10, read: 1 }));
    assert.deepEqual(lines, []);
  });

  test("of which the driver never offers the end fails, and so does what comes of it later", async (t) => {
    const bus = new FakeBus("fake", 0x10);
    const { driver } = await rig(t, { buses: [bus] });
    const beginning = driver.post({ address: 0x10, write: [1] }, true);
    assert.deepEqual((await driver.answers([beginning]))[0]!.isOk, false);
    const rest = [
      driver.post({ address: 0x10, write: [2] }, true),
      driver.post({ address: 0x10, write: [3] }),
    ];
    assert.deepEqual(
      (await driver.answers(rest)).map(({ isOk }) => isOk),
      [false, false],
    );
    assert.deepEqual(bus.seen, []);
    assert.ok(await driver.exchange({ address: 0x10, read: 1 }));
  });

  test("that fills its ring and is not whole fails, since no more of it can come", async (t) => {
    const bus = new FakeBus("fake", 0x10);
    const { driver } = await rig(t, { buses: [bus], queueSize: 4 });
    const posted = Array.from({ length: 4 }, (_, i) => driver.post({ address: 0x10, write: [i] }, true));
    assert.deepEqual(
      (await driver.answers(posted)).map(({ isOk }) => isOk),
      [false, false, false, false],
    );
    assert.deepEqual((await driver.transfer({ address: 0x10, write: [5] }))[0]!.isOk, false, "its end");
    assert.ok(await driver.exchange({ address: 0x10, write: [6] }, { address: 0x10, read: 3 }));
    assert.deepEqual(bus.seen, [
      [0x10, "06"],
      [0x10, "read 3"],
    ]);
  });

  for (const packed of [false, true]) {
    test(`is given back by a ${packed ? "packed" : "split"} ring in one step, done or not`, async () => {
      await using daemon = await startDevice("i2c", ["--packed"]);
      const frontEnd = await connectI2c(daemon.socketPath, { queueSize: 16, packed });
      const driver = new I2cDriver(frontEnd);
      for (let round = 0; round < 300; round++) {
        const length = 2 + (round % 6);
        const address = round % 2 === 0 ? EEPROM : NOBODY;
        const posted = driver.postGroup(Array.from({ length }, () => ({ address, write: [round % 256] })));
        // Without a turn of the event loop: nothing is between two looks.
        const { ring } = frontEnd.queues[0]!;
        const deadline = performance.now() + 20_000;
        let seen = 0;
        while (seen === 0 && performance.now() < deadline) seen = ring.usedTokens().length;
        assert.equal(seen, length, "all of the group is used at the first look at which any is");
        const answers = await driver.answers(posted);
        assert.ok(answers.every(({ isOk }) => isOk === (address === EEPROM)));
      }
      frontEnd.close();
    });
  }
});

describe("a request", () => {
  test("that makes no sense fails, and does nothing", async (t) => {
    const bus = new FakeBus("fake", 0x10);
    const { driver } = await rig(t, { buses: [bus] });
    const header = headerOf(0x20, 0);
    const read = headerOf(0x20, VIRTIO_I2C_FLAGS_M_RD);
    const cases: [string, Buffer[], number[]][] = [
      ["a header that is too short", [header.subarray(0, 7)], [1]],
      ["nothing to read", [], [4]],
      ["a write with room for data", [header, Buffer.of(1)], [4, 1]],
      ["a read that has data", [read, Buffer.of(1)], [4, 1]],
      ["an address of 10 bits", [headerOf(0x20f0, 0)], [1]],
      ["an address with a direction", [headerOf(0x21, 0)], [1]],
      ["a flag that nobody knows", [headerOf(0x20, 4)], [1]],
    ];
    for (const [what, readable, room] of cases) {
      const bytes = await driver.chains.exchange(readable, room);
      assert.deepEqual([bytes.length, bytes.at(-1)], [room.reduce((a, b) => a + b), 1], what);
    }
    // Without room for a status, nothing can be said.
    assert.equal((await driver.chains.exchange([header], [])).length, 0);
    assert.deepEqual(bus.seen, []);
    assert.ok(await driver.isThere(0x10));
  });

  test("may have its header and its data in any pieces, and the longest message that there is", async (t) => {
    const bus = new FakeBus("fake", 0x10);
    const { driver } = await rig(t, { buses: [bus] });
    const pieces = [...headerOf(0x20, 0), 7, 8, 9].map((byte) => Buffer.of(byte));
    assert.deepEqual(await driver.chains.exchange(pieces, [1], { indirect: true }), Buffer.of(0));
    assert.deepEqual(bus.seen, [[0x10, "070809"]]);
    assert.equal((await driver.exchange({ address: 0x10, read: BYTES_MAX }))?.length, BYTES_MAX);
    const write = Array.from({ length: BYTES_MAX }, (_, i) => i % 256);
    assert.ok(await driver.exchange({ address: 0x10, write }));
    assert.equal(bus.transfers.at(-1)![0]!.bytes.length, BYTES_MAX);
  });

  test("is not done for a driver that has not accepted requests of no length, who is refused", async (t) => {
    const bus = new FakeBus("fake", 0x10);
    const { driver, frontEnd, lines, socketPath } = await rig(t, { buses: [bus] });
    assert.notEqual(await frontEnd.setFeatures(frontEnd.features & ~1n), 0n);
    await until(() => lines.length > 0, "a line of the log");
    assert.ok(await driver.isThere(0x10), "what was agreed on holds");
    frontEnd.close();
    // Nothing is agreed on.
    await using stranger = await FrontEnd.open(socketPath);
    await stranger.setProtocolFeatures(await stranger.getProtocolFeatures());
    await stranger.shareMemory(new Memory());
    stranger.makeQueue(16);
    await stranger.startQueue(0);
    assert.equal(await stranger.setVringEnable(0, true), 0n);
    const before = bus.transfers.length;
    assert.deepEqual(await new ChainDriver(stranger, 0).exchange([headerOf(0x20, 0)], [1]), Buffer.of(1));
    assert.equal(bus.transfers.length, before);
  });
});

describe("a bus that hangs", () => {
  test("ends its request with an error, fails others at once, and holds up no other bus", async (t) => {
    const bus = new FakeBus("hanging", 0x10);
    const { driver, lines } = await rig(t, { chips: [thermometer()], buses: [bus] });
    const release: (() => void)[] = [];
    bus.answer = () => new Promise((resolve) => release.push(resolve));
    assert.equal(await driver.exchange({ address: 0x10, write: [1] }), undefined);
    assert.match(lines.join(), /^a bus hangs/);
    for (let i = 0; i < 100; i++)
      assert.equal(await driver.exchange({ address: 0x10, write: [2] }), undefined);
    assert.equal(bus.transfers.length, 1, "nothing else is asked of it");
    assert.ok(await driver.isThere(THERMOMETER));
    for (const resolve of release) resolve();
    bus.answer = () => Promise.resolve();
    await until(async () => (await driver.isThere(0x10)) || undefined, "it answers again");
    assert.ok(await driver.exchange({ address: 0x10, read: 1 }));
  });

  test("holds up no ring that stops: its request is answered, and those behind it are done later", async (t) => {
    const bus = new FakeBus("hanging", 0x10);
    const { driver, frontEnd } = await rig(t, { chips: [thermometer()], buses: [bus] });
    bus.answer = () => new Promise(() => {});
    const hanging = driver.post({ address: 0x10, write: [1] });
    const behind = driver.postGroup([
      { address: THERMOMETER, write: [0] },
      { address: THERMOMETER, read: 2 },
    ]);
    await until(() => bus.transfers.length > 0, "it has begun");
    const base = await frontEnd.stopQueue(0);
    driver.chains.collect();
    assert.equal(hanging.used?.bytes[0], 1);
    assert.deepEqual(
      behind.map(({ used }) => used),
      [undefined, undefined],
    );
    await frontEnd.startQueue(0, base);
    const answers = await driver.answers(behind);
    assert.ok(answers.every(({ isOk }) => isOk));
  });
});

describe("options", () => {
  function start(...args: string[]) {
    const program = join(dirname(PROGRAM), "vringd-i2c.mjs");
    const all = [program, `--socket-path=${join(directory, "socket")}`, ...args];
    const { status, stderr } = spawnSync(process.execPath, all, { encoding: "utf8", timeout: 60_000 });
    return { status, stderr };
  }

  const ADDRESSES = "with addresses from 0x03 to 0x77";
  const CHIPS =
    "at24:ADDRESS,file=PATH,size=BYTES or lm75:ADDRESS[,temperature=CELSIUS], with an address from 0x03 to 0x77";
  for (const [args, status, sentence] of [
    [[], 2, "there is nothing on the bus: give --device-list or --emulate (see --help)"],
    [
      ["--device-list=1"],
      2,
      `--device-list takes BUS:ADDRESS[:ADDRESS...][,BUS:...], ${ADDRESSES}, not "1" (see --help)`,
    ],
    [
      ["--device-list=1:2"],
      2,
      `--device-list takes BUS:ADDRESS[:ADDRESS...][,BUS:...], ${ADDRESSES}, not "1:2" (see --help)`,
    ],
    [["--emulate=tmp102:0x48"], 2, `--emulate takes ${CHIPS}, not "tmp102:0x48" (see --help)`],
    [["--emulate=lm75:0x78"], 2, `--emulate takes ${CHIPS}, not "lm75:0x78" (see --help)`],
    [
      ["--emulate=lm75:0x48,temperature=hot"],
      2,
      `--emulate takes ${CHIPS}, not "lm75:0x48,temperature=hot" (see --help)`,
    ],
    [
      ["--emulate=lm75:0x48,temperature=200"],
      1,
      "the LM75 at 0x48 can't measure 200 degrees: it measures from -55 to 125",
    ],
    [
      ["--emulate=at24:0x50,file=x,size=100"],
      1,
      "the EEPROM at 0x50 can't have 100 bytes: give a power of two from 128 to 262144",
    ],
    [
      ["--emulate=at24:0x50,file=/nowhere/x,size=256"],
      1,
      "can't keep an EEPROM in /nowhere/x: no such file or directory",
    ],
    [["--emulate=at24:0x50,file=/dev/null,size=256"], 1, "can't keep an EEPROM in /dev/null: it is no file"],
    [["--emulate=lm75:0x48", "--emulate=lm75:72"], 1, "two are at 0x48: a bus has one at each address"],
    [["--emulate=lm75:0x48", "--device-list=900:72"], 1, "two are at 0x48: a bus has one at each address"],
    [
      ["--device-list=900:72"],
      1,
      "can't open /dev/i2c-900: no such file or directory; modprobe i2c-dev makes these files",
    ],
    [["--device-list=nobody's:72"], 1, `no I2C bus is called "nobody's": see i2cdetect -l`],
  ] as const) {
    test(`${args.join(" ") || "none"}: a sentence says what is wrong`, () => {
      assert.deepEqual(start(...args), { status, stderr: `vringd-i2c: ${sentence}\n` });
    });
  }

  test("name chips and addresses in either notation", () => {
    assert.deepEqual(emulatedChip.read("lm75:72"), { kind: "lm75", address: 0x48, temperature: 20 });
    assert.deepEqual(emulatedChip.read("at24:0x50,file=a,b,size=256"), {
      kind: "at24",
      address: 0x50,
      file: "a,b",
      size: 256,
    });
  });
});
