// Guests with an I2C bus from a back-end: what runs in them, and what they tell. Their programs are i2c-tools' and the kernel's drivers.

import { ask, tell } from "./guest-console.ts";
import { I2C } from "./guest-device.ts";
import type { GuestProcess } from "./guest-process.ts";
import type { QemuGuestOptions } from "./guest-qemu.ts";

export const I2C_PROGRAMS = ["i2cdetect", "i2cget", "i2cset", "i2ctransfer"];

/** Does what each line on the guest's console says, until "end". A line that fails ends it. */
const AS_TOLD = `
report READY yes
while read -r line && [ "$line" != end ]; do eval "$line"; done
`;

/**
 * A kernel that looks at each piece of memory when it is freed and taken again, so that what a back-end writes to a request that
 * the driver has given up shows in the log.
 */
const WATCHFUL = ["slub_debug=FZP"];

export function i2cGuest(socketPath: string, options: Partial<QemuGuestOptions> = {}): QemuGuestOptions {
  return {
    socketPath,
    device: I2C,
    modules: ["at24", "lm75"],
    programs: I2C_PROGRAMS,
    script: AS_TOLD,
    kernelArguments: WATCHFUL,
    ...options,
  };
}

/** The addresses that i2cdetect finds on a bus; "UU" is one that a driver has. */
export async function detect(guest: GuestProcess, bus = 0): Promise<string[]> {
  const table = await ask(guest, `i2cdetect -y ${bus} | tail -n +2 | cut -c4- | tr '\\n' ' '`);
  return table.split(" ").filter((cell) => cell !== "" && cell !== "--");
}

/** Has the kernel's own driver take a chip. */
export function bindDriver(guest: GuestProcess, driver: string, address: number, bus = 0): Promise<void> {
  return tell(guest, `echo ${driver} 0x${address.toString(16)} > /sys/bus/i2c/devices/i2c-${bus}/new_device`);
}

export function sysfsOf(address: number, bus = 0): string {
  return `/sys/bus/i2c/devices/${bus}-00${address.toString(16)}`;
}

/** What i2ctransfer reads, in words such as "0x01 0x02"; or "Warning: only 0/2 messages were sent", as much as the driver says of a failure. */
export function transfer(guest: GuestProcess, messages: string, bus = 0): Promise<string> {
  return ask(guest, `i2ctransfer -y -f ${bus} ${messages} 2>&1`);
}

/** Lines of the kernel's log about memory that somebody has written who must not. */
export function corruptions(guest: GuestProcess): Promise<string> {
  return ask(guest, "dmesg | grep -c -E 'BUG|Poison overwritten|Redzone|corrupt' || true");
}
