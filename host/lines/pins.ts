// The lines that a guest is given: those of a chip of this machine, or emulated ones.
import { reasonOf, StartError } from "../errors.ts";
import { ENOTTY } from "../linux/errno.ts";
import { GpioChip } from "../linux/gpio-chip.ts";
import { EmulatedPin, type Pin } from "./pin.ts";

/** A driver counts them with 16 bits (virtio 1.4, 5.18.4). */
const LINES_MAX = 65535;

export class Pins {
  /** Of each line, as a guest may be told it: ASCII, and no two alike; empty for a line without one (5.18.6.1). */
  private readonly names: readonly string[];

  constructor(
    readonly all: readonly Pin[],
    readonly chip?: { readonly path: string; readonly label: string },
    readonly close = () => {},
  ) {
    this.names = namesForGuests(all.map(({ name }) => name));
  }

  static emulate(names: readonly string[]): Pins {
    return new Pins(names.map((name) => new EmulatedPin(name)));
  }

  /** Throws StartError. */
  static ofChip(path: string): Pins {
    const chip = openChip(path);
    try {
      const { lineCount, label } = chip;
      if (lineCount === 0 || lineCount > LINES_MAX)
        throw new StartError(`${path} has ${lineCount} lines: give a chip with 1 to ${LINES_MAX}`);
      const lines = Array.from({ length: lineCount }, (_, offset) => chip.line(offset));
      return new Pins(lines, { path, label }, () => chip.close());
    } catch (error) {
      chip.close();
      throw error;
    }
  }

  get areEmulated(): boolean {
    return this.chip === undefined;
  }

  /** All names, each with a NUL; nothing if no line has one. */
  get nameBlock(): Buffer {
    const hasNames = this.names.some((name) => name !== "");
    return Buffer.from(hasNames ? this.names.map((name) => `${name}\0`).join("") : "");
  }

  /** For people. */
  nameOf(index: number): string {
    return this.names[index] || `line ${index}`;
  }

  /** As an operator gives the level of an emulated line: "button", "1". Throws RangeError, whose message is a sentence. */
  give([name, level = "", ...others]: readonly string[]): void {
    if (!/^[01]$/.test(level) || others.length > 0) throw new RangeError("give a line, and 0 or 1");
    const pin = this.all.find((each) => each.name === name);
    if (!(pin instanceof EmulatedPin))
      throw new RangeError(`no line is called ${name}; there are ${this.names.join(", ")}`);
    pin.give(Number(level));
  }
}

function openChip(path: string): GpioChip {
  try {
    return GpioChip.open(path);
  } catch (error) {
    const isOther = (error as { errno?: number }).errno === ENOTTY;
    const reason = isOther ? "that is no GPIO chip" : reasonOf(error);
    throw new StartError(`can't have the GPIO chip ${path}: ${reason}`);
  }
}

function namesForGuests(names: readonly string[]): string[] {
  const isUsable = (name: string, at: number) => /^[\x20-\x7e]+$/.test(name) && names.indexOf(name) === at;
  return names.map((name, at) => (isUsable(name, at) ? name : ""));
}
