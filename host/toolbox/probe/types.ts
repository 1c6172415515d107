// Which types a device that is no disk may have, by what can be seen of it: no request of the protocol asks for the type.
import { allPrograms } from "../../devices/index.ts";
import type { DeviceTraits } from "../../devices/program.ts";

export interface SeenDevice {
  readonly queueCount: number;
  /** As offered, with those of rings and of the protocol. */
  readonly features: bigint;
  /** Empty: it gives none. */
  readonly config: Uint8Array;
}

export interface FittingType {
  readonly type: string;
  readonly featureNames: DeviceTraits["featureNames"];
}

/** What is asked of a config space at the most: as much as a disk has, and all that some back-ends give. */
export const CONFIG_MOST = 60;

/** Bits 24 to 49 are for rings, negotiation, and the protocol in between (virtio 1.4, 2.2). */
const OF_DEVICES = 0xfffc_0000_00ff_ffffn;

export async function typesThatFit(device: SeenDevice): Promise<FittingType[]> {
  const programs = await allPrograms();
  return programs.flatMap(({ capabilities: { type }, traits }) =>
    traits !== undefined && fits(device, traits) ? [{ type, featureNames: traits.featureNames }] : [],
  );
}

/** Back-ends answer for more of the space than a device has, with zeroes. */
function fits({ queueCount, features, config }: SeenDevice, traits: DeviceTraits): boolean {
  const { requiredFeatures = 0n } = traits;
  const bits = Object.keys(traits.featureNames).reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);
  const hasConfig = config.length > 0;
  return (
    traits.hasQueues(queueCount) &&
    (features & OF_DEVICES & ~bits) === 0n &&
    (requiredFeatures & ~features) === 0n &&
    hasConfig === traits.configBytes > 0 &&
    config.length >= Math.min(traits.configBytes, CONFIG_MOST) &&
    config.subarray(traits.configBytes).every((byte) => byte === 0) &&
    (traits.isConfig?.(config.subarray(0, traits.configBytes)) ?? true)
  );
}
