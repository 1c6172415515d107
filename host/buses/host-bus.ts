// A bus of the host's, and those of its addresses that a guest has.
import { reasonOf, StartError } from "../errors.ts";
import { EBUSY } from "../linux/errno.ts";
import { AddressError, I2cBus, type I2cMessage, i2cBusPath } from "../linux/i2c-dev.ts";
import { type Bus, hex } from "./bus.ts";
import type { ListedBus } from "./target.ts";

export class HostBus implements Bus {
  readonly addresses: ReadonlyMap<number, string>;

  private constructor(
    readonly name: string,
    addresses: readonly number[],
    private readonly bus: I2cBus,
  ) {
    this.addresses = new Map(addresses.map((address) => [address, name]));
  }

  /** Throws StartError. */
  static open({ bus, addresses }: ListedBus): HostBus {
    const path = i2cBusPath(bus);
    if (path === undefined) throw new StartError(`no I2C bus is called "${bus}": see i2cdetect -l`);
    try {
      return new HostBus(path, addresses, I2cBus.open(path, addresses));
    } catch (error) {
      throw new StartError(sentenceOf(error, path));
    }
  }

  transfer(messages: readonly I2cMessage[]): Promise<void> {
    return this.bus.transfer(messages);
  }

  close(): void {
    this.bus.close();
  }
}

function sentenceOf(error: unknown, path: string): string {
  const { code, errno } = error as NodeJS.ErrnoException;
  if (error instanceof AddressError) {
    const what = `can't have ${hex(error.address)} on ${path}`;
    return errno === EBUSY
      ? `${what}: a driver of the host's kernel has it; unbind that driver, or leave the address out`
      : `${what}: ${reasonOf(error)}`;
  }
  return `can't open ${path}: ${reasonOf(error)}${code === "ENOENT" ? "; modprobe i2c-dev makes these files" : ""}`;
}
