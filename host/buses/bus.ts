// An I2C bus as far as a guest may have it: some addresses, and transfers to them.
import type { I2cMessage } from "../linux/i2c-dev.ts";

export interface Bus {
  /** For messages, such as "/dev/i2c-1". */
  readonly name: string;
  /** What is at each, in a few words. No transfer is for any other address. */
  readonly addresses: ReadonlyMap<number, string>;
  /** All of them as one transfer. Rejects if any has failed. */
  transfer(messages: readonly I2cMessage[]): Promise<void>;
  close(): void | Promise<void>;
}

export const hex = (address: number): string => `0x${address.toString(16).padStart(2, "0")}`;
