// A thermometer, LM75: four registers, behind a pointer that a write begins with.
import type { Chip } from "./chip.ts";

const LEAST = -55;
const MOST = 125;
/** What is measured in half degrees stands in the upper 9 bits. */
const STEPS = 2;
const SHIFT = 7;

const TEMPERATURE = 0;

export const LM75_RANGE = `it measures from ${LEAST} to ${MOST}`;
export const isLm75Temperature = (celsius: number): boolean => celsius >= LEAST && celsius <= MOST;

export class Lm75 implements Chip {
  readonly what = "lm75";
  readonly addresses: readonly number[];
  /** Measured, configuration, and the limits of the alarm: 75 and 80 degrees unless somebody sets them. */
  private readonly registers = [bytesOf(0), Buffer.of(0), bytesOf(75), bytesOf(80)];
  private pointer = TEMPERATURE;

  constructor(address: number, celsius: number) {
    this.addresses = [address];
    this.setTemperature(celsius);
  }

  write(_address: number, bytes: Uint8Array): void {
    const [pointer, ...values] = bytes;
    if (pointer === undefined) return;
    this.pointer = pointer & 3;
    const register = this.registers[this.pointer]!;
    if (this.pointer !== TEMPERATURE) register.set(values.slice(0, register.length));
  }

  /** Whoever reads on gets the same again. */
  read(_address: number, bytes: Uint8Array): void {
    const register = this.registers[this.pointer]!;
    for (let i = 0; i < bytes.length; i++) bytes[i] = register[i % register.length]!;
  }

  /** Returns what it measures then: half degrees. Throws RangeError. */
  setTemperature(celsius: number): number {
    if (!isLm75Temperature(celsius))
      throw new RangeError(`it can't measure ${celsius} degrees: ${LM75_RANGE}`);
    const measured = bytesOf(celsius);
    this.registers[TEMPERATURE] = measured;
    return (measured.readInt16BE() >> SHIFT) / STEPS;
  }
}

function bytesOf(celsius: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(Math.round(celsius * STEPS) << SHIFT);
  return bytes;
}
