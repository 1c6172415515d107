// Opens all that a guest is to find on its bus, or nothing of it.
import type { Bus } from "./bus.ts";
import { EmulatedBus, refuseTwice } from "./emulated-bus.ts";
import { HostBus } from "./host-bus.ts";
import type { EmulatedChip, ListedBus } from "./target.ts";

export interface OpenBuses {
  readonly emulated: EmulatedBus;
  /** The emulated one among them. */
  readonly all: readonly Bus[];
}

/** Throws StartError. */
export async function openBuses(
  listed: readonly ListedBus[],
  chips: readonly EmulatedChip[],
): Promise<OpenBuses> {
  const emulated = await EmulatedBus.open(chips);
  const all: Bus[] = [emulated];
  try {
    refuseTwice([...emulated.addresses.keys(), ...listed.flatMap(({ addresses }) => addresses)]);
    for (const each of listed) all.push(HostBus.open(each));
    return { emulated, all };
  } catch (error) {
    for (const bus of all) await bus.close();
    throw error;
  }
}
