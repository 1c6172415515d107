// Runs in a guest that has two I2C buses: /dev/i2c-0 with chips of a back-end outside, and i2c-stub, which knows SMBus alone. Serves both
// by vringd-i2c to a driver of ours, the guest's guest. guest-i2c-host.test.ts is outside.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { connectI2c, I2cDriver } from "./i2c-driver.ts";
import { letOutside, report } from "./in-guest.ts";
import { until } from "./until.ts";
import { PROGRAM, Vringd } from "./vringd.ts";

/** On the bus from outside. */
const THERMOMETER = 0x48;
const EEPROM = 0x54;
/** On i2c-stub. */
const REGISTERS = 0x20;
const TAKEN = 0x51;
const NOBODY = 0x33;
/** The module's, when it has one bus. */
const STUB = "SMBus stub driver";
/** More than one transfer of SMBus. */
const LONG = 300;

const program = [process.execPath, join(dirname(PROGRAM), "vringd-i2c.mjs")];

function startFails(list: string): string {
  const args = [...program.slice(1), "--socket-path=/run/refused", `--device-list=${list}`];
  const { status, stderr } = spawnSync(program[0]!, args, { encoding: "utf8" });
  assert.equal(status, 1, stderr);
  return stderr.trimEnd();
}

await using daemon = await Vringd.start({
  program,
  deviceArgs: () => [
    `--device-list=0:${THERMOMETER}:0x${EEPROM.toString(16)},${STUB}:0x${REGISTERS.toString(16)}`,
  ],
});
const frontEnd = await connectI2c(daemon.socketPath);
const driver = new I2cDriver(frontEnd);
const read = (address: number, write: readonly number[], length: number) =>
  driver.exchange({ address, write }, { address, read: length });
const write = async (address: number, ...bytes: number[]) =>
  (await driver.exchange({ address, write: bytes })) !== undefined;
report("STARTED", "yes");

const there: string[] = [];
for (let address = 3; address < 0x78; address++)
  if (await driver.isThere(address)) there.push(address.toString(16));
report("THERE", there.join(" "));

// The stub: each transfer that SMBus has, and none that it has not.
const stub = REGISTERS;
assert.ok(await write(stub, 0x10, 0xab), "a byte");
assert.deepEqual(await read(stub, [0x10], 1), Buffer.of(0xab));
assert.ok(await write(stub, 0x20, 0x34, 0x12), "a word");
assert.deepEqual(await read(stub, [0x20], 2), Buffer.of(0x34, 0x12));
const block = Array.from({ length: 32 }, (_, i) => i * 3);
assert.ok(await write(stub, 0x40, ...block), "a block");
assert.deepEqual(await read(stub, [0x40], 32), Buffer.from(block));
assert.ok(await write(stub, 0x10), "an offset alone");
assert.deepEqual(await driver.exchange({ address: stub, read: 1 }), Buffer.of(0xab));
assert.equal(await read(stub, [0x40], 33), undefined, "more than a block");
assert.equal(await write(stub, 0x40, ...block, 1), false, "more than a block");
assert.equal(await read(stub, [0x40, 1], 2), undefined, "an offset of two bytes");
assert.equal(await driver.exchange({ address: stub, read: 4 }), undefined, "bytes without an offset");
report("SMBUS", "as told");

// Any transfer, as one: reads as long as the guest asks for, with a start in between.
assert.equal((await read(THERMOMETER, [0], 2))?.toString("hex"), "1580", "21.5 degrees");
const bytes = Array.from({ length: LONG }, (_, i) => (i * 7) % 256);
assert.ok(await write(EEPROM, 0x12, 0x34, ...bytes));
assert.deepEqual(await read(EEPROM, [0x12, 0x34], LONG), Buffer.from(bytes));
const group = await driver.transfer(
  { address: THERMOMETER, write: [0] },
  { address: EEPROM, write: [0x12, 0x34] },
  { address: EEPROM, read: 4 },
  { address: THERMOMETER, read: 2 },
);
assert.deepEqual(
  group.map(({ isOk, data }) => [isOk, data.toString("hex")]),
  [
    [true, ""],
    [true, ""],
    [true, Buffer.from(bytes.slice(0, 4)).toString("hex")],
    [true, "1580"],
  ],
);
report("I2C", "as told");

// A group that can't be done, for what nobody has or what is on another bus, does nothing.
for (const other of [NOBODY, REGISTERS]) {
  for (const messages of [
    [EEPROM, other],
    [other, EEPROM],
  ]) {
    const answers = await driver.transfer(
      ...messages.map((address) => ({ address, write: [0x12, 0x34, 0xee] })),
    );
    assert.deepEqual(
      answers.map(({ isOk }) => isOk),
      [false, false],
    );
  }
}
assert.deepEqual(await read(EEPROM, [0x12, 0x34], LONG), Buffer.from(bytes));
assert.deepEqual(await read(stub, [0x12], 1), Buffer.of(0));
report("GROUPS", "as told");

report("TAKEN", startFails(`1:0x${TAKEN.toString(16)}`));
report("ABSENT", startFails("7:0x20"));
report("NAMELESS", startFails("no such bus:0x20"));

// The back-end outside stops: the host's bus hangs, whatever was asked of it.
await letOutside("HANG");
assert.equal(await read(THERMOMETER, [0], 2), undefined);
for (let i = 0; i < 50; i++) assert.equal(await read(EEPROM, [0, 0], 1), undefined);
assert.deepEqual(await read(stub, [0x10], 1), Buffer.of(0xab), "the other bus goes on");
const base = await frontEnd.stopQueue(0);
await frontEnd.startQueue(0, base);
await letOutside("GO_ON");
await until(async () => (await driver.isThere(THERMOMETER)) || undefined, "the bus answers again", 120_000);
assert.equal((await read(THERMOMETER, [0], 2))?.toString("hex"), "1580");
assert.ok(daemon.linesLike(/a bus hangs/).length > 0);
report("HUNG", "as told");

frontEnd.close();
assert.equal(await daemon.stop(), 0);
assert.ok(!existsSync(daemon.socketPath));
report("DONE", "yes");
process.exit(0);
