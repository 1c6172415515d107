// Where things lie in the page's linear memory. The core asks for the places of abi/memory.ts below and in the worker's
// part; guest memory may lie anywhere a window says. Here it lies below the workers, so 52 MiB of addresses are enough.
import {
  DEVICE_BLOCK_SECTORS,
  DEVICE_CAPACITY_SECTORS,
  DEVICE_DISCARD_UNMAPS,
  DEVICE_FILE_FD,
  DEVICE_MAX_DISCARD_SECTORS,
  DEVICE_MAX_RANGES,
  DEVICE_MAX_WRITE_ZEROES_SECTORS,
  DEVICE_MEMORY_HOST_ADDRESS,
  DEVICE_UNALIGNED_FD,
} from "../../assembly/abi/device-block.ts";
import { ENTRY_GPA, ENTRY_LENGTH, ENTRY_TARGET } from "../../assembly/abi/guest-memory.ts";
import { DEVICE_PTR, REGION_TABLE_PTR, WASM_PAGE_SIZE, WORKERS_PTR } from "../../assembly/abi/memory.ts";
import { LEFTOVERS_STRIDE, WORKER_LEFTOVERS, WORKER_WINDOW_TABLE } from "../../assembly/abi/worker.ts";
import { SECTOR_SIZE } from "../../assembly/spec/virtio-blk.ts";

/** What a crash leaves, since it belongs to others: the front-end's inflight region and the guest's memory. */
export const SHARED_PTR = 0x100000;
export const SHARED_SIZE = 0x20000;
export const INFLIGHT_PTR = SHARED_PTR;
export const GUEST_PTR = 0x110000;
export const GUEST_SIZE = 0x10000;

/** What a crash takes: all that the worker has in linear memory. */
export const PRIVATE_PTR = WORKERS_PTR;
export const PRIVATE_SIZE = WORKER_LEFTOVERS + LEFTOVERS_STRIDE;

/** Guest, pointer and host addresses have nothing in common, so that mixing them up cannot work. */
export const GUEST_GPA = 0x10000;
const GUEST_HOST = 0x7f12_0000_0000;
export const MEMORY_HOST = 0x7f56_0000_0000;

/** The ring's parts, by their names in SET_VRING_ADDR, then a place for each request's buffers. */
export const DESC_GPA = GUEST_GPA;
export const DRIVER_GPA = GUEST_GPA + 0x400;
export const DEVICE_GPA = GUEST_GPA + 0x800;
export const SLOTS_GPA = GUEST_GPA + 0x1000;
export const SLOT_SIZE = 0x800;

export const DISK_SECTORS = 16;
export const FILE_FD = 3;
export const KICK_FD = 4;
export const CALL_FD = 5;
export const CONTROL_FD = 6;

const MEMORY_PAGES = (PRIVATE_PTR + PRIVATE_SIZE) / WASM_PAGE_SIZE;

/** Throws where so much address space is not to be had. */
export function makeMemory(): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: MEMORY_PAGES });
}

export function ptrOfGpa(gpa: number): number {
  return gpa - GUEST_GPA + GUEST_PTR;
}

export function gpaOfHost(address: number): number {
  return address - GUEST_HOST + GUEST_GPA;
}

/** Writes what a host tells the core of disk and guest memory. */
export function describeHost(view: DataView): void {
  const u32 = (field: number, value: number) => view.setUint32(DEVICE_PTR + field, value, true);
  const u64 = (field: number, value: number) => view.setBigUint64(DEVICE_PTR + field, BigInt(value), true);
  u64(DEVICE_CAPACITY_SECTORS, DISK_SECTORS);
  u64(DEVICE_MEMORY_HOST_ADDRESS, MEMORY_HOST);
  u32(DEVICE_FILE_FD, FILE_FD);
  u32(DEVICE_UNALIGNED_FD, FILE_FD);
  u32(DEVICE_BLOCK_SECTORS, 1);
  u32(DEVICE_DISCARD_UNMAPS, 1);
  u32(DEVICE_MAX_DISCARD_SECTORS, DISK_SECTORS);
  u32(DEVICE_MAX_WRITE_ZEROES_SECTORS, DISK_SECTORS);
  u32(DEVICE_MAX_RANGES, 1);
  writeEntry(view, REGION_TABLE_PTR, GUEST_HOST);
  writeEntry(view, WORKERS_PTR + WORKER_WINDOW_TABLE, GUEST_PTR);
}

function writeEntry(view: DataView, ptr: number, target: number): void {
  view.setBigUint64(ptr + ENTRY_GPA, BigInt(GUEST_GPA), true);
  view.setBigUint64(ptr + ENTRY_LENGTH, BigInt(GUEST_SIZE), true);
  view.setBigUint64(ptr + ENTRY_TARGET, BigInt(target), true);
}

export const DISK_BYTES = DISK_SECTORS * SECTOR_SIZE;
