// The device block of linear memory: what the core must know of the disk.
import {
  DEVICE_BLOCK_SECTORS,
  DEVICE_BOUNCE_FD,
  DEVICE_CAPACITY_SECTORS,
  DEVICE_DIRECT_MASK,
  DEVICE_DISCARD_UNMAPS,
  DEVICE_FILE_FD,
  DEVICE_FLUSHED,
  DEVICE_ID,
  DEVICE_LIMIT_REQUEST_BYTES,
  DEVICE_LIMITED,
  DEVICE_LIMITS,
  DEVICE_MAX_DISCARD_SECTORS,
  DEVICE_MAX_RANGES,
  DEVICE_MAX_WRITE_ZEROES_SECTORS,
  DEVICE_READ_ONLY,
  DEVICE_SIZE,
  DEVICE_SYNC_SHARED,
  DEVICE_SYNC_STATE,
  DEVICE_TURN_REQUESTS,
  DEVICE_UNALIGNED_FD,
  DEVICE_WRITE_THROUGH,
  DISCARD_IGNORED,
  DISCARD_MARKED,
  DISCARD_UNMAPS,
  SYNC_FAILED,
  SYNC_SOUND,
  SYNC_UNKEPT,
} from "../../../assembly/abi/device-block.ts";
import {
  LIMIT_BURST_PAID_UNTIL,
  LIMIT_BURST_PRICE,
  LIMIT_BURST_ROOM,
  LIMIT_PAID_UNTIL,
  LIMIT_PRICE,
  LIMIT_ROOM,
  LIMIT_STRIDE,
} from "../../../assembly/abi/limits.ts";
import { DEVICE_PTR } from "../../../assembly/abi/memory.ts";
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import type { LinearMemory } from "../../memory/linear-memory.ts";
import type { OperationForm, StorageFacts } from "../../storage/storage.ts";
import { bucketsOf, LIMITED, type LimitValues } from "./limits.ts";

/** Before any worker starts. */
export function writeDeviceBlock({ view }: LinearMemory, facts: StorageFacts, form: OperationForm): void {
  const u32 = (field: number, value: number) => view.setUint32(DEVICE_PTR + field, value, true);
  const i32 = (field: number, value: number) => view.setInt32(DEVICE_PTR + field, value, true);
  const u64 = (field: number, value: bigint) => view.setBigUint64(DEVICE_PTR + field, value, true);
  u64(DEVICE_CAPACITY_SECTORS, facts.byteLength / BigInt(SECTOR_SIZE));
  i32(DEVICE_FILE_FD, form.fd);
  i32(DEVICE_UNALIGNED_FD, form.unalignedFd);
  i32(DEVICE_BOUNCE_FD, form.bounceFd ?? 0);
  u32(DEVICE_DIRECT_MASK, form.directMask);
  u32(DEVICE_BLOCK_SECTORS, facts.blockSize / SECTOR_SIZE);
  u32(DEVICE_READ_ONLY, Number(facts.readOnly));
  const discards = form.marksDiscards ? DISCARD_MARKED : DISCARD_UNMAPS;
  u32(DEVICE_DISCARD_UNMAPS, facts.discard === "unmap" ? discards : DISCARD_IGNORED);
  u32(DEVICE_MAX_DISCARD_SECTORS, facts.rangeBytesMax / SECTOR_SIZE);
  u32(DEVICE_MAX_WRITE_ZEROES_SECTORS, facts.rangeBytesMax / SECTOR_SIZE);
  u32(DEVICE_MAX_RANGES, facts.rangeSegments);
  u32(DEVICE_SYNC_STATE, form.keepsAccount ? SYNC_UNKEPT : SYNC_SOUND);
  u32(DEVICE_SYNC_SHARED, Number(!form.keepsAccount));
  u32(DEVICE_TURN_REQUESTS, form.turnRequests);
  Buffer.from(facts.serial, "latin1").forEach((byte, i) => {
    view.setUint8(DEVICE_PTR + DEVICE_ID + i, byte);
  });
}

/** At any time: workers look at each request. */
export function writeCapacity({ wasm }: LinearMemory, byteLength: bigint): void {
  const sectors = byteLength / BigInt(SECTOR_SIZE);
  Atomics.store(new BigUint64Array(wasm.buffer, DEVICE_PTR + DEVICE_CAPACITY_SECTORS, 1), 0, sectors);
}

/** WRITE_THROUGH_*, at any time, also while requests run. */
export function writeWriteThrough(linear: LinearMemory, mode: number): void {
  storeWord(linear, DEVICE_WRITE_THROUGH, mode);
}

/** Flushes fail from here on, unless the engine keeps account of them itself. */
export function failSyncs({ wasm }: LinearMemory): void {
  const words = new Int32Array(wasm.buffer, DEVICE_PTR, DEVICE_SIZE / 4);
  Atomics.compareExchange(words, DEVICE_SYNC_STATE / 4, SYNC_SOUND, SYNC_FAILED);
}

/** Whether one has failed, so that all do. */
export function haveSyncsFailed({ wasm }: LinearMemory): boolean {
  return (
    Atomics.load(new Int32Array(wasm.buffer, DEVICE_PTR, DEVICE_SIZE / 4), DEVICE_SYNC_STATE / 4) ===
    SYNC_FAILED
  );
}

/** The next FLUSH is the first. */
export function clearFlushed(linear: LinearMemory): void {
  storeWord(linear, DEVICE_FLUSHED, 0);
}

/** At any time. What was owed by the former limits is forgotten. */
export function writeLimits({ wasm }: LinearMemory, values: LimitValues): void {
  const buckets = bucketsOf(values);
  const word = (field: number) => new BigUint64Array(wasm.buffer, DEVICE_PTR + field, 1);
  const u64 = (field: number, value: bigint) => Atomics.store(word(field), 0, value);
  const nanoseconds = (value: number) => BigInt(Math.min(Math.round(value), MOST_NS));
  buckets.forEach(({ price, room, burstPrice, burstRoom }, i) => {
    const at = DEVICE_LIMITS + i * LIMIT_STRIDE;
    u64(at + LIMIT_PAID_UNTIL, 0n);
    u64(at + LIMIT_BURST_PAID_UNTIL, 0n);
    u64(at + LIMIT_ROOM, nanoseconds(room));
    u64(at + LIMIT_BURST_ROOM, nanoseconds(burstRoom));
    u64(at + LIMIT_BURST_PRICE, bitsOf(burstPrice));
    u64(at + LIMIT_PRICE, bitsOf(price));
  });
  const { iopsSize = 0 } = values;
  Atomics.store(new Uint32Array(wasm.buffer, DEVICE_PTR + DEVICE_LIMIT_REQUEST_BYTES, 1), 0, iopsSize);
  const isLimited = buckets.some(({ price }) => price > 0);
  storeWord({ wasm } as LinearMemory, DEVICE_LIMITED, Number(isLimited));
}

const PAID_UNTIL = [LIMIT_PAID_UNTIL, LIMIT_BURST_PAID_UNTIL];

/** Of each bucket, and of its burst: the time (CLOCK_MONOTONIC) until when what was done is paid for. */
export function readPaidUntil(linear: LinearMemory): bigint[] {
  return paidUntilWords(linear).map((word) => Atomics.load(word, 0));
}

export function writePaidUntil(linear: LinearMemory, times: readonly bigint[]): void {
  paidUntilWords(linear).forEach((word, i) => {
    Atomics.store(word, 0, times[i] ?? 0n);
  });
}

function paidUntilWords({ wasm }: LinearMemory): BigUint64Array[] {
  return LIMITED.flatMap((_, i) =>
    PAID_UNTIL.map(
      (field) => new BigUint64Array(wasm.buffer, DEVICE_PTR + DEVICE_LIMITS + i * LIMIT_STRIDE + field, 1),
    ),
  );
}

/** 31 years: the core adds it to the time. */
const MOST_NS = 1e18;

function bitsOf(value: number): bigint {
  return new BigUint64Array(Float64Array.of(value).buffer)[0]!;
}

/** Whether a FLUSH has come since. */
export function isFlushed({ wasm }: LinearMemory): boolean {
  return Atomics.load(new Int32Array(wasm.buffer, DEVICE_PTR, DEVICE_SIZE / 4), DEVICE_FLUSHED / 4) !== 0;
}

function storeWord({ wasm }: LinearMemory, field: number, value: number): void {
  const words = new Int32Array(wasm.buffer, DEVICE_PTR, DEVICE_SIZE / 4);
  Atomics.store(words, field / 4, value);
}
