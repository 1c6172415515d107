// Wire formats of the vhost-user protocol: bytes to values and back. Pure: no sockets, no descriptors, no policy.
// All numbers are in the machine's byte order ("Message Specification"), which is little-endian wherever this runs.
import { ProtocolError } from "../errors.ts";
import {
  requestName,
  VHOST_MEMORY_BASELINE_NREGIONS,
  VHOST_USER_MAX_CONFIG_SIZE,
  VHOST_USER_VERSION,
} from "./messages.ts";

/** The part of a message that decoders look at. */
export interface Encoded {
  readonly request: number;
  readonly payload: Buffer;
}

export interface Header {
  request: number;
  flags: number;
  /** Of the payload, in bytes. */
  size: number;
}

/** request u32, flags u32, size u32. */
export const HEADER_SIZE = 12;

export function encodeHeader({ request, flags, size }: Header): Buffer {
  const bytes = Buffer.alloc(HEADER_SIZE);
  bytes.writeUInt32LE(request, 0);
  bytes.writeUInt32LE(flags, 4);
  bytes.writeUInt32LE(size, 8);
  return bytes;
}

export function decodeHeader(bytes: Buffer): Header {
  return { request: bytes.readUInt32LE(0), flags: bytes.readUInt32LE(4), size: bytes.readUInt32LE(8) };
}

const NO_PAYLOAD = Buffer.alloc(0);

/** A whole message; the version is added to the flags. */
export function encodeMessage(request: number, flags: number, payload: Buffer = NO_PAYLOAD): Buffer {
  return Buffer.concat([
    encodeHeader({ request, flags: flags | VHOST_USER_VERSION, size: payload.length }),
    payload,
  ]);
}

/** For requests without a payload. */
export function decodeNothing(message: Encoded): void {
  expectSize(message, 0);
}

export function encodeU64(value: bigint): Buffer {
  const payload = Buffer.alloc(8);
  payload.writeBigUInt64LE(value);
  return payload;
}

export function decodeU64(message: Encoded): bigint {
  expectSize(message, 8);
  return message.payload.readBigUInt64LE(0);
}

/** "A vring state description", also a vring's descriptor indices: index u32, num u32. */
export interface VringState {
  index: number;
  num: number;
}

export function encodeVringState({ index, num }: VringState): Buffer {
  const payload = Buffer.alloc(8);
  payload.writeUInt32LE(index, 0);
  payload.writeUInt32LE(num, 4);
  return payload;
}

export function decodeVringState(message: Encoded): VringState {
  expectSize(message, 8);
  return { index: message.payload.readUInt32LE(0), num: message.payload.readUInt32LE(4) };
}

/** "A vring address description": index u32, flags u32, descriptor u64, used u64, available u64, log u64. */
export interface VringAddress {
  index: number;
  flags: number;
  descriptor: bigint;
  used: bigint;
  available: bigint;
  log: bigint;
}

const VRING_ADDRESS_SIZE = 40;

export function encodeVringAddress(address: VringAddress): Buffer {
  const payload = Buffer.alloc(VRING_ADDRESS_SIZE);
  payload.writeUInt32LE(address.index, 0);
  payload.writeUInt32LE(address.flags, 4);
  payload.writeBigUInt64LE(address.descriptor, 8);
  payload.writeBigUInt64LE(address.used, 16);
  payload.writeBigUInt64LE(address.available, 24);
  payload.writeBigUInt64LE(address.log, 32);
  return payload;
}

export function decodeVringAddress(message: Encoded): VringAddress {
  expectSize(message, VRING_ADDRESS_SIZE);
  const { payload } = message;
  return {
    index: payload.readUInt32LE(0),
    flags: payload.readUInt32LE(4),
    descriptor: payload.readBigUInt64LE(8),
    used: payload.readBigUInt64LE(16),
    available: payload.readBigUInt64LE(24),
    log: payload.readBigUInt64LE(32),
  };
}

/** "Memory region description": guest address u64, size u64, user address u64, mmap offset u64. */
export interface MemoryRegion {
  gpa: bigint;
  byteLength: bigint;
  userAddress: bigint;
  mmapOffset: bigint;
}

const REGION_SIZE = 32;
/** num regions u32, padding u32. */
const TABLE_HEADER_SIZE = 8;
/** A padding u64 before the region. */
const SINGLE_REGION_SIZE = 8 + REGION_SIZE;

function writeRegion(payload: Buffer, at: number, region: MemoryRegion): void {
  payload.writeBigUInt64LE(region.gpa, at);
  payload.writeBigUInt64LE(region.byteLength, at + 8);
  payload.writeBigUInt64LE(region.userAddress, at + 16);
  payload.writeBigUInt64LE(region.mmapOffset, at + 24);
}

function readRegion(payload: Buffer, at: number): MemoryRegion {
  return {
    gpa: payload.readBigUInt64LE(at),
    byteLength: payload.readBigUInt64LE(at + 8),
    userAddress: payload.readBigUInt64LE(at + 16),
    mmapOffset: payload.readBigUInt64LE(at + 24),
  };
}

export function encodeMemoryTable(regions: readonly MemoryRegion[]): Buffer {
  const payload = Buffer.alloc(TABLE_HEADER_SIZE + regions.length * REGION_SIZE);
  payload.writeUInt32LE(regions.length, 0);
  regions.forEach((region, i) => {
    writeRegion(payload, TABLE_HEADER_SIZE + i * REGION_SIZE, region);
  });
  return payload;
}

/** QEMU sends the regions in use, the text has room for 8, and user-mode-linux for 2: only the count matters. */
export function decodeMemoryTable(message: Encoded): MemoryRegion[] {
  const { payload } = message;
  if (payload.length < TABLE_HEADER_SIZE) fail(message, `payload of ${payload.length} bytes`);
  const count = payload.readUInt32LE(0);
  if (count > VHOST_MEMORY_BASELINE_NREGIONS) fail(message, `${count} regions`);
  const room = (payload.length - TABLE_HEADER_SIZE) / REGION_SIZE;
  if (room < count || room > VHOST_MEMORY_BASELINE_NREGIONS || !Number.isInteger(room)) {
    fail(message, `payload of ${payload.length} bytes`);
  }
  return Array.from({ length: count }, (_, i) => readRegion(payload, TABLE_HEADER_SIZE + i * REGION_SIZE));
}

export function encodeSingleRegion(region: MemoryRegion): Buffer {
  const payload = Buffer.alloc(SINGLE_REGION_SIZE);
  writeRegion(payload, 8, region);
  return payload;
}

export function decodeSingleRegion(message: Encoded): MemoryRegion {
  expectSize(message, SINGLE_REGION_SIZE);
  return readRegion(message.payload, 8);
}

/** "Virtio device config space": offset u32, size u32, flags u32, then as many bytes as size says. */
export interface ConfigAccess {
  offset: number;
  flags: number;
  bytes: Buffer;
}

const CONFIG_HEADER_SIZE = 12;

export function encodeConfig({ offset, flags, bytes }: ConfigAccess): Buffer {
  const header = Buffer.alloc(CONFIG_HEADER_SIZE);
  header.writeUInt32LE(offset, 0);
  header.writeUInt32LE(bytes.length, 4);
  header.writeUInt32LE(flags, 8);
  return Buffer.concat([header, bytes]);
}

export function decodeConfig(message: Encoded): ConfigAccess {
  const { payload } = message;
  if (payload.length < CONFIG_HEADER_SIZE) fail(message, `payload of ${payload.length} bytes`);
  const size = payload.readUInt32LE(4);
  if (size > VHOST_USER_MAX_CONFIG_SIZE) fail(message, `${size} bytes of config space`);
  expectSize(message, CONFIG_HEADER_SIZE + size);
  return {
    offset: payload.readUInt32LE(0),
    flags: payload.readUInt32LE(8),
    bytes: payload.subarray(CONFIG_HEADER_SIZE),
  };
}

/** "Inflight description": mmap size u64, mmap offset u64, num queues u16, queue size u16. */
export interface InflightDescription {
  mmapSize: bigint;
  mmapOffset: bigint;
  numQueues: number;
  queueSize: number;
}

const INFLIGHT_SIZE = 20;
/** sizeof(VhostUserInflight) in C. QEMU sends this many bytes, and accepts a reply of no other length. */
const INFLIGHT_PADDED_SIZE = 24;

export function encodeInflight(description: InflightDescription, byteLength = INFLIGHT_PADDED_SIZE): Buffer {
  const payload = Buffer.alloc(byteLength);
  payload.writeBigUInt64LE(description.mmapSize, 0);
  payload.writeBigUInt64LE(description.mmapOffset, 8);
  payload.writeUInt16LE(description.numQueues, 16);
  payload.writeUInt16LE(description.queueSize, 18);
  return payload;
}

export function decodeInflight(message: Encoded): InflightDescription {
  expectSize(message, INFLIGHT_SIZE, INFLIGHT_PADDED_SIZE);
  const { payload } = message;
  return {
    mmapSize: payload.readBigUInt64LE(0),
    mmapOffset: payload.readBigUInt64LE(8),
    numQueues: payload.readUInt16LE(16),
    queueSize: payload.readUInt16LE(18),
  };
}

/** "A log description": mmap size u64, mmap offset u64. */
export interface LogDescription {
  mmapSize: bigint;
  mmapOffset: bigint;
}

export function encodeLog({ mmapSize, mmapOffset }: LogDescription): Buffer {
  const payload = Buffer.alloc(16);
  payload.writeBigUInt64LE(mmapSize, 0);
  payload.writeBigUInt64LE(mmapOffset, 8);
  return payload;
}

export function decodeLog(message: Encoded): LogDescription {
  expectSize(message, 16);
  return { mmapSize: message.payload.readBigUInt64LE(0), mmapOffset: message.payload.readBigUInt64LE(8) };
}

/** "Device state transfer parameters": transfer direction u32, migration phase u32. */
export interface StateTransfer {
  direction: number;
  phase: number;
}

export function encodeStateTransfer({ direction, phase }: StateTransfer): Buffer {
  const payload = Buffer.alloc(8);
  payload.writeUInt32LE(direction, 0);
  payload.writeUInt32LE(phase, 4);
  return payload;
}

export function decodeStateTransfer(message: Encoded): StateTransfer {
  expectSize(message, 8);
  return { direction: message.payload.readUInt32LE(0), phase: message.payload.readUInt32LE(4) };
}

function expectSize(message: Encoded, ...allowed: number[]): void {
  const { length } = message.payload;
  if (!allowed.includes(length)) fail(message, `payload of ${length} bytes`);
}

function fail(message: Encoded, reason: string): never {
  throw new ProtocolError(requestName(message.request), reason);
}
