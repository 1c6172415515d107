// Linear memory as the core and its host share it: what lies where. Numbers only.
//
//   0x0000_0000  null guard: never mapped
//   0x0001_0000  static data of the core
//   0x0002_0000  device block: what every worker must know of the disk (device-block.ts)
//   0x0003_0000  region table: guest memory for the kernel, by host address (guest-memory.ts)
//   0x0004_0000  zeroes: the source of a write-zeroes that the file system can't do itself
//   0x0010_0000  the dirty log: a bit for each page of guest memory that was written, while the front-end wants to know
//   0x0200_0000  workers, WORKER_STRIDE apart: tables, rings, requests, I/O vectors (worker.ts)
//   0x1c00_0000  the inflight region
//   0x2000_0000  guest memory for the core, by window

/** Of the ABI that ABI.md describes: its major version times 0x10000, and its minor version. */
export const ABI_VERSION = 0x20003;

export const WASM_PAGE_SIZE = 65536;
/** 4 GiB of address space: the most a 32-bit memory has. */
export const MEMORY_PAGES = 65536;

export const DEVICE_PTR = 0x20000;
export const REGION_TABLE_PTR = 0x30000;
export const ZEROES_PTR = 0x40000;
export const ZEROES_SIZE = 0x10000;
export const HEAD_END = 0x50000;

/** The vhost-user text's log ("Migration"): 31 MiB, for 992 GiB of guest physical addresses. */
export const DIRTY_LOG_PTR = 0x100000;
export const DIRTY_LOG_SIZE = 0x1f00000;
/** VHOST_LOG_PAGE: what one bit of it stands for. */
export const DIRTY_LOG_PAGE = 0x1000;

export const WORKERS_PTR = 0x2000000;
export const WORKER_STRIDE = 0x2000000;
export const WORKERS_MAX = 13;

export const INFLIGHT_PTR = 0x1c000000;
export const INFLIGHT_SIZE_MAX = 0x4000000;

export const GUEST_PTR = 0x20000000;
/** One past the last page for guest memory: the last 64 KiB stay unmapped, so that no sum of pointer and length wraps. */
export const GUEST_END = 0xffff0000;
