// The requests of a script: what each looks like, which operation it must lead to, and how it must end.
import { OP_CHAIN } from "../../assembly/abi/chain.ts";
import {
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_READ,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
} from "../../assembly/spec/io-uring.ts";
import {
  BLK_HEADER_SIZE,
  RANGE_SIZE,
  SECTOR_SIZE,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../assembly/spec/virtio-blk.ts";

const EIO = 5;

export const CAPACITY_SECTORS = 1 << 20;

/** A request's own bytes in guest memory, by their offset in its area. */
export const AREA_SIZE = 64;
export const AREA_HEADER = 0;
export const AREA_RANGE = BLK_HEADER_SIZE;
export const AREA_ID = AREA_RANGE + RANGE_SIZE;
export const AREA_STATUS = AREA_ID + VIRTIO_BLK_ID_BYTES;

/** A buffer in the request's area, or data, which only the kernel touches. */
export interface Buffer {
  where: "area" | "data";
  offset: number;
  length: number;
  writable: boolean;
}

export interface Kind {
  name: string;
  type: number;
  isIndirect: boolean;
  isPastEnd: boolean;
  buffers: readonly Buffer[];
  /** The operation that it leads to; undefined: it ends at once. */
  opcode: number | undefined;
  /** How it ends unless its operation fails; no status: the chain has no place for one. */
  status: number | undefined;
  length: number;
}

const HEADER = inArea(AREA_HEADER, BLK_HEADER_SIZE, false);
const RANGE = inArea(AREA_RANGE, RANGE_SIZE, false);
const ID = inArea(AREA_ID, VIRTIO_BLK_ID_BYTES, true);
const STATUS = inArea(AREA_STATUS, 1, true);

function inArea(offset: number, length: number, writable: boolean): Buffer {
  return { where: "area", offset, length, writable };
}

function data(writable: boolean, offset = 0, length = SECTOR_SIZE): Buffer {
  return { where: "data", offset, length, writable };
}

function kind(name: string, type: number, buffers: Buffer[], rest: Partial<Kind>): Kind {
  const defaults = {
    isIndirect: false,
    isPastEnd: false,
    opcode: undefined,
    status: VIRTIO_BLK_S_OK,
    length: 1,
  };
  return { name, type, buffers, ...defaults, ...rest };
}

const READ_LENGTH = SECTOR_SIZE + 1;

export const WRITE = kind("write", VIRTIO_BLK_T_OUT, [HEADER, data(false), STATUS], {
  opcode: IORING_OP_WRITE,
});
export const READ = kind("read", VIRTIO_BLK_T_IN, [HEADER, data(true), STATUS], {
  opcode: IORING_OP_READ,
  length: READ_LENGTH,
});
export const FLUSH = kind("flush", VIRTIO_BLK_T_FLUSH, [HEADER, STATUS], { opcode: IORING_OP_FSYNC });
export const WRITE_ZEROES = kind("write zeroes", VIRTIO_BLK_T_WRITE_ZEROES, [HEADER, RANGE, STATUS], {
  opcode: IORING_OP_FALLOCATE,
});
export const INDIRECT_WRITE: Kind = { ...WRITE, name: "indirect write", isIndirect: true };
export const INDIRECT_READ: Kind = { ...READ, name: "indirect read", isIndirect: true };
/** Two buffers that don't touch: a vector. */
export const SCATTERED_WRITE = kind(
  "scattered write",
  VIRTIO_BLK_T_OUT,
  [HEADER, data(false, 0, SECTOR_SIZE / 2), data(false, 1024, SECTOR_SIZE / 2), STATUS],
  { isIndirect: true, opcode: IORING_OP_WRITEV },
);
export const GET_ID = kind("get id", VIRTIO_BLK_T_GET_ID, [HEADER, ID, STATUS], {
  length: VIRTIO_BLK_ID_BYTES + 1,
});
export const UNSUPPORTED = kind("unsupported", 99, [HEADER, STATUS], { status: VIRTIO_BLK_S_UNSUPP });
export const PAST_END = kind("read past the end", VIRTIO_BLK_T_IN, [HEADER, data(true), STATUS], {
  isPastEnd: true,
  status: VIRTIO_BLK_S_IOERR,
});
export const NO_STATUS = kind("no status", VIRTIO_BLK_T_OUT, [HEADER], { status: undefined, length: 0 });

function chain(name: string, buffers: Buffer[], rest: Partial<Kind> = {}): Kind {
  return kind(name, 0, buffers, { opcode: OP_CHAIN, status: undefined, ...rest });
}

/** Of a device that the core knows nothing of. Each has a data buffer, which says whose it is, and none that touch. */
export const CHAIN_OUT = chain("chain to the device", [HEADER, data(false)]);
export const CHAIN_IN = chain("chain from the device", [data(true)]);
export const CHAIN_BOTH = chain("chain both ways", [HEADER, data(false, 0, 100), data(true, 1024, 512)]);
export const INDIRECT_CHAIN: Kind = { ...CHAIN_BOTH, name: "indirect chain", isIndirect: true };
export const INDIRECT_CHAIN_IN: Kind = {
  ...CHAIN_IN,
  name: "indirect chain from the device",
  isIndirect: true,
};

export const CHAIN_KINDS: readonly Kind[] = [
  CHAIN_OUT,
  CHAIN_IN,
  CHAIN_BOTH,
  INDIRECT_CHAIN,
  INDIRECT_CHAIN_IN,
];

export const KINDS: readonly Kind[] = [
  WRITE,
  READ,
  FLUSH,
  WRITE_ZEROES,
  INDIRECT_WRITE,
  INDIRECT_READ,
  SCATTERED_WRITE,
  GET_ID,
  UNSUPPORTED,
  PAST_END,
  NO_STATUS,
];

/** By index, as the driver notes it in guest memory. */
export const ALL_KINDS: readonly Kind[] = [...KINDS, ...CHAIN_KINDS];

/** Some operations fail, each time they are done. Not those of a flush, which doesn't say whose it is. */
function operationFails(serial: number): boolean {
  return serial % 7 === 5;
}

/** What the kernel returns for an operation. */
export function resultOf({ opcode, offset }: { opcode: number; offset: number }): number {
  if (opcode === IORING_OP_FSYNC) return 0;
  if (operationFails(offset / SECTOR_SIZE)) return -EIO;
  return opcode === IORING_OP_FALLOCATE ? 0 : SECTOR_SIZE;
}

export function isImmediate(kind: Kind): boolean {
  return kind.opcode === undefined;
}

export function expectedStatus(kind: Kind, serial: number): number | undefined {
  return mustFail(kind, serial) ? VIRTIO_BLK_S_IOERR : kind.status;
}

export function expectedLength(kind: Kind, serial: number): number {
  return mustFail(kind, serial) ? 1 : kind.length;
}

function mustFail(kind: Kind, serial: number): boolean {
  return !isImmediate(kind) && kind.opcode !== IORING_OP_FSYNC && operationFails(serial);
}

/** Each request has a sector of its own, by which its operation is told. */
export function sectorOf(kind: Kind, serial: number): number {
  return kind.isPastEnd ? CAPACITY_SECTORS : serial;
}
