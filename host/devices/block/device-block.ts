// The device block of linear memory: what the core must know of the disk.
import * as layout from "../../../assembly/abi/layout.ts";
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import type { LinearMemory } from "../../memory/linear-memory.ts";
import type { OperationForm, StorageFacts } from "../../storage/storage.ts";

/** Before any worker starts. */
export function writeDeviceBlock({ view }: LinearMemory, facts: StorageFacts, form: OperationForm): void {
  const u32 = (field: number, value: number) => view.setUint32(layout.DEVICE_PTR + field, value, true);
  const i32 = (field: number, value: number) => view.setInt32(layout.DEVICE_PTR + field, value, true);
  const u64 = (field: number, value: bigint) => view.setBigUint64(layout.DEVICE_PTR + field, value, true);
  u64(layout.DEVICE_CAPACITY_SECTORS, facts.byteLength / BigInt(SECTOR_SIZE));
  i32(layout.DEVICE_FILE_FD, form.fd);
  i32(layout.DEVICE_UNALIGNED_FD, form.unalignedFd);
  i32(layout.DEVICE_BOUNCE_FD, form.bounceFd ?? 0);
  u32(layout.DEVICE_DIRECT_MASK, form.directMask);
  u32(layout.DEVICE_BLOCK_SECTORS, facts.blockSize / SECTOR_SIZE);
  u32(layout.DEVICE_READ_ONLY, Number(facts.readOnly));
  const discards = form.marksDiscards ? layout.DISCARD_MARKED : layout.DISCARD_UNMAPS;
  u32(layout.DEVICE_DISCARD_UNMAPS, facts.discard === "unmap" ? discards : layout.DISCARD_IGNORED);
  u32(layout.DEVICE_MAX_DISCARD_SECTORS, facts.rangeBytesMax / SECTOR_SIZE);
  u32(layout.DEVICE_MAX_WRITE_ZEROES_SECTORS, facts.rangeBytesMax / SECTOR_SIZE);
  u32(layout.DEVICE_MAX_RANGES, facts.rangeSegments);
  u32(layout.DEVICE_SYNC_STATE, form.keepsAccount ? layout.SYNC_UNKEPT : layout.SYNC_SOUND);
  u32(layout.DEVICE_SYNC_SHARED, Number(!form.keepsAccount));
  u32(layout.DEVICE_TURN_REQUESTS, form.turnRequests);
  Buffer.from(facts.serial, "latin1").forEach((byte, i) => {
    view.setUint8(layout.DEVICE_PTR + layout.DEVICE_ID + i, byte);
  });
}

/** WRITE_THROUGH_*, at any time, also while requests run. */
export function writeWriteThrough(linear: LinearMemory, mode: number): void {
  storeWord(linear, layout.DEVICE_WRITE_THROUGH, mode);
}

/** The next FLUSH is the first. */
export function clearFlushed(linear: LinearMemory): void {
  storeWord(linear, layout.DEVICE_FLUSHED, 0);
}

function storeWord({ wasm }: LinearMemory, field: number, value: number): void {
  const words = new Int32Array(wasm.buffer, layout.DEVICE_PTR, layout.DEVICE_SIZE / 4);
  Atomics.store(words, field / 4, value);
}
