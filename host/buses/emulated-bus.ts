// The bus that emulated chips are on.
import { StartError } from "../errors.ts";
import type { I2cMessage } from "../linux/i2c-dev.ts";
import { At24, isAt24Size } from "./at24.ts";
import { type Bus, hex } from "./bus.ts";
import type { Chip } from "./chip.ts";
import { isLm75Temperature, LM75_RANGE, Lm75 } from "./lm75.ts";
import type { EmulatedChip } from "./target.ts";

export class EmulatedBus implements Bus {
  readonly name = "emulated chips";
  readonly addresses: ReadonlyMap<number, string>;
  private readonly chips = new Map<number, Chip>();

  private constructor(private readonly all: readonly Chip[]) {
    for (const chip of all) for (const address of chip.addresses) this.chips.set(address, chip);
    this.addresses = new Map([...this.chips].map(([address, { what }]) => [address, what]));
  }

  /** Throws StartError. */
  static async open(emulated: readonly EmulatedChip[]): Promise<EmulatedBus> {
    const chips: Chip[] = [];
    try {
      for (const each of emulated) chips.push(await chipOf(each));
      refuseTwice(chips.flatMap(({ addresses }) => addresses));
      return new EmulatedBus(chips);
    } catch (error) {
      for (const chip of chips) await chip.close?.();
      throw error;
    }
  }

  async transfer(messages: readonly I2cMessage[]): Promise<void> {
    for (const { address, isRead, bytes } of messages) {
      const chip = this.chips.get(address)!;
      await (isRead ? chip.read(address, bytes) : chip.write(address, bytes));
    }
  }

  get hasThermometer(): boolean {
    return this.all.some((chip) => chip instanceof Lm75);
  }

  /** What the thermometer there measures from now on. Resolves to it, as exactly as it measures. Throws RangeError. */
  setTemperature(address: number | undefined, celsius: number): number {
    const chip = this.chips.get(address ?? 0);
    if (!(chip instanceof Lm75)) throw new RangeError("no thermometer is emulated at that address");
    return chip.setTemperature(celsius);
  }

  async close(): Promise<void> {
    for (const chip of this.all) await chip.close?.();
  }
}

/** Throws StartError. */
export function refuseTwice(addresses: readonly number[]): void {
  const twice = addresses.find((address, i) => addresses.indexOf(address) < i);
  if (twice !== undefined) throw new StartError(`two are at ${hex(twice)}: a bus has one at each address`);
}

/** Throws StartError. */
async function chipOf(chip: EmulatedChip): Promise<Chip> {
  const { kind, address } = chip;
  if (kind === "lm75") {
    if (isLm75Temperature(chip.temperature)) return new Lm75(address, chip.temperature);
    throw new StartError(
      `the LM75 at ${hex(address)} can't measure ${chip.temperature} degrees: ${LM75_RANGE}`,
    );
  }
  if (isAt24Size(chip.size)) return At24.open(address, chip.file, chip.size);
  throw new StartError(
    `the EEPROM at ${hex(address)} can't have ${chip.size} bytes: give a power of two from 128 to 262144`,
  );
}
