// The device's configuration space as front-ends ask for it: cut and padded, written by the driver, or restored after a migration.
import type { ConfigSpace } from "../devices/device.ts";
import { ProtocolError } from "../errors.ts";
import {
  VHOST_USER_CONFIG_F_MIGRATION,
  VHOST_USER_CONFIG_F_WRITABLE,
  VHOST_USER_MAX_CONFIG_SIZE,
} from "../protocol/messages.ts";
import { asOutOfRange } from "./request.ts";
import type { ConfigWrite } from "./session-state.ts";

const MMIO_CONFIG_OFFSET = 0x100;

/** Any part of the 256 bytes that the protocol has room for. What lies past the device's space is zero. */
export function readConfig(config: ConfigSpace, frontEndOffset: number, byteLength: number): Buffer {
  const offset = offsetInSpace(frontEndOffset);
  if (offset + byteLength > VHOST_USER_MAX_CONFIG_SIZE) {
    throw new ProtocolError("GET_CONFIG", `${byteLength} bytes at ${frontEndOffset}`);
  }
  const space = Buffer.alloc(VHOST_USER_MAX_CONFIG_SIZE);
  space.set(config.read().subarray(0, config.byteLength));
  return space.subarray(offset, offset + byteLength);
}

export function writeConfig(
  config: ConfigSpace,
  frontEndOffset: number,
  bytes: Uint8Array,
  flags: number,
): void {
  const offset = offsetInSpace(frontEndOffset);
  try {
    if (flags === VHOST_USER_CONFIG_F_WRITABLE) writeAsDriver(config, offset, bytes);
    else if (flags === VHOST_USER_CONFIG_F_MIGRATION) restore(config, offset, bytes);
    else throw new RangeError(`flags ${flags}`);
  } catch (error) {
    throw asOutOfRange("SET_CONFIG", error);
  }
}

function writeAsDriver(config: ConfigSpace, offset: number, bytes: Uint8Array): void {
  const isWithin = offset + bytes.length <= config.byteLength;
  if (!isWithin || config.write === undefined) {
    throw new RangeError(`${bytes.length} bytes at ${offset} are read-only`);
  }
  config.write(offset, bytes);
}

/** A source may have a longer space, of a later specification: what lies past the end of ours is left out. */
function restore(config: ConfigSpace, offset: number, bytes: Uint8Array): void {
  const known = bytes.subarray(0, Math.max(config.byteLength - offset, 0));
  if (known.length === 0) return;
  if (config.restore !== undefined) config.restore(offset, known);
  else config.write?.(offset, known);
}

/** More fields than any device lets its driver write. */
const WRITES_KEPT = 32;

/** What a front-end has written, to be written again when it is served again after another. */
export class ConfigWrites {
  private readonly last = new Map<string, ConfigWrite>();

  get all(): readonly ConfigWrite[] {
    return [...this.last.values()];
  }

  add(offset: number, bytes: Uint8Array, flags: number): void {
    const place = `${offset} ${bytes.length} ${flags}`;
    this.last.delete(place);
    this.last.set(place, { offset, bytes: Uint8Array.from(bytes), flags });
    if (this.last.size > WRITES_KEPT) this.last.delete(this.last.keys().next().value!);
  }

  repeat(config: ConfigSpace): void {
    for (const { offset, bytes, flags } of this.last.values()) {
      try {
        writeConfig(config, offset, bytes, flags);
      } catch (error) {
        // The device has changed since, and has no such value any more.
        if (!(error instanceof ProtocolError)) throw error;
      }
    }
  }
}

/**
 * Cloud Hypervisor up to v50 gives offsets as virtio-mmio has them, where the config space begins at 0x100. No offset of
 * the space itself is that large.
 */
function offsetInSpace(offset: number): number {
  return offset < VHOST_USER_MAX_CONFIG_SIZE ? offset : offset - MMIO_CONFIG_OFFSET;
}
