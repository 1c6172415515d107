// How options name what is on a bus: addresses of a bus of the host's, BUS:ADDRESS:..., and chips that are emulated, CHIP:ADDRESS,....
import type { OptionType } from "../options/types.ts";

/** Those below and above have meanings of their own (I2C-bus specification, 3.1.12). */
const ADDRESS_MIN = 0x03;
const ADDRESS_MAX = 0x77;
const RANGE = "from 0x03 to 0x77";

/** Addresses of a bus of the host, which has this number or name. */
export interface ListedBus {
  readonly bus: string;
  readonly addresses: readonly number[];
}

export type EmulatedChip = { readonly address: number } & (
  | { readonly kind: "at24"; readonly file: string; readonly size: number }
  | { readonly kind: "lm75"; readonly temperature: number }
);

/** Of an LM75, in degrees Celsius. */
const TEMPERATURE = 20;

/** Decimal, or hexadecimal behind 0x. Undefined if it is none. */
export function parseAddress(text: string): number | undefined {
  const address = /^(0x[\da-f]{1,2}|\d{1,3})$/i.test(text) ? Number(text) : 0;
  return address >= ADDRESS_MIN && address <= ADDRESS_MAX ? address : undefined;
}

export const deviceList: OptionType<readonly ListedBus[]> = {
  takes: `BUS:ADDRESS[:ADDRESS...][,BUS:...], with addresses ${RANGE}`,
  read(text) {
    const buses = text.split(",").map(parseBus);
    return buses.every((bus) => bus !== undefined) ? buses : undefined;
  },
  accepts: (value): value is readonly ListedBus[] => Array.isArray(value),
};

export const emulatedChip: OptionType<EmulatedChip> = {
  takes: `at24:ADDRESS,file=PATH,size=BYTES or lm75:ADDRESS[,temperature=CELSIUS], with an address ${RANGE}`,
  read(text) {
    const [, kind, at = "", settings = ""] = /^(at24|lm75):([^,]*)(,.*)?$/s.exec(text) ?? [];
    const address = parseAddress(at);
    if (address === undefined) return undefined;
    return kind === "lm75" ? parseLm75(address, settings) : parseAt24(address, settings);
  },
  accepts: (value): value is EmulatedChip => typeof value === "object",
};

function parseBus(text: string): ListedBus | undefined {
  const [bus, ...addresses] = text.split(":");
  const parsed = addresses.flatMap((address) => parseAddress(address) ?? []);
  return bus && parsed.length > 0 && parsed.length === addresses.length
    ? { bus, addresses: parsed }
    : undefined;
}

function parseAt24(address: number, settings: string): EmulatedChip | undefined {
  const [, file, size] = /^,file=(.+),size=(\d{1,7})$/s.exec(settings) ?? [];
  return file ? { kind: "at24", address, file, size: Number(size) } : undefined;
}

function parseLm75(address: number, settings: string): EmulatedChip | undefined {
  if (settings === "") return { kind: "lm75", address, temperature: TEMPERATURE };
  const [, temperature] = /^,temperature=(-?\d{1,3}(?:\.\d{1,3})?)$/.exec(settings) ?? [];
  return temperature ? { kind: "lm75", address, temperature: Number(temperature) } : undefined;
}
