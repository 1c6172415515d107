// Feature bits by the names that the specifications give them.
import * as blk from "../../assembly/spec/virtio-blk.ts";
import * as virtqueue from "../../assembly/spec/virtqueue.ts";
import { hasFeature } from "../protocol/feature-bits.ts";
import * as messages from "../protocol/messages.ts";

const BITS = 64;

const features = namesOf({ ...blk, ...virtqueue, ...messages }, /^VIRTIO_(BLK_)?F_|^VHOST_USER_F_/);
const protocolFeatures = namesOf(messages, /^VHOST_USER_PROTOCOL_F_/);

export const featureNames = (mask: bigint) => nameBits(mask, features);
export const protocolFeatureNames = (mask: bigint) => nameBits(mask, protocolFeatures);

function namesOf(constants: Record<string, unknown>, pattern: RegExp): ReadonlyMap<number, string> {
  const matching = Object.entries(constants).filter(([name]) => pattern.test(name));
  return new Map(matching.map(([name, bit]) => [bit as number, name]));
}

function nameBits(mask: bigint, names: ReadonlyMap<number, string>): string[] {
  const set = Array.from({ length: BITS }, (_, bit) => bit).filter((bit) => hasFeature(mask, bit));
  return set.map((bit) => names.get(bit) ?? `bit ${bit}`);
}
