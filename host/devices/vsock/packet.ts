// The header before each packet's data (virtio 1.4, 5.10.6), as a driver writes it and as it reads it.
import * as spec from "../../../assembly/spec/virtio-vsock.ts";
import type { ChainReader } from "../device.ts";

/** What connects a port of the host, or of another guest, with one of the guest's. */
export interface Address {
  /** Of the side that is not the guest. */
  readonly cid: number;
  readonly port: number;
  readonly guestPort: number;
  readonly type: number;
}

/** A packet of the guest's, without its data. */
export interface Packet extends Address {
  readonly sourceCid: number;
  readonly byteLength: number;
  readonly op: number;
  readonly flags: number;
  readonly bufAlloc: number;
  readonly fwdCnt: number;
}

/** What the device says. */
export interface Word {
  readonly op: number;
  readonly byteLength: number;
  readonly flags: number;
  bufAlloc: number;
  fwdCnt: number;
}

/** With no credit of the device's own: whoever has some adds it. */
export function wordOf(op: number, byteLength = 0, flags = 0): Word {
  return { op, byteLength, flags, bufAlloc: 0, fwdCnt: 0 };
}

/** A CID whose upper half is not 0 is nobody's. */
const NOBODY = 0;

/** Reads it once. Throws ShortChain. */
export function readPacket(reader: ChainReader): Packet {
  // In the order of the fields.
  return {
    sourceCid: readCid(reader),
    cid: readCid(reader),
    guestPort: reader.u32(),
    port: reader.u32(),
    byteLength: reader.u32(),
    type: reader.u16(),
    op: reader.u16(),
    flags: reader.u32(),
    bufAlloc: reader.u32(),
    fwdCnt: reader.u32(),
  };
}

function readCid(reader: ChainReader): number {
  const low = reader.u32();
  return reader.u32() === 0 ? low : NOBODY;
}

const words = new Uint32Array(spec.VSOCK_HDR_SIZE / 4);
const header = new Uint8Array(words.buffer);

/** The bytes of a header to the guest, for a packet that has so much of the word's data. They are good until the next call. */
export function headerOf(
  address: Address,
  guestCid: number,
  word: Word,
  byteLength: number,
  flags: number,
): Uint8Array {
  words[spec.VSOCK_HDR_SRC_CID / 4] = address.cid;
  words[spec.VSOCK_HDR_DST_CID / 4] = guestCid;
  words[spec.VSOCK_HDR_SRC_PORT / 4] = address.port;
  words[spec.VSOCK_HDR_DST_PORT / 4] = address.guestPort;
  words[spec.VSOCK_HDR_LEN / 4] = byteLength;
  // Two fields of 16 bits.
  words[spec.VSOCK_HDR_TYPE / 4] = address.type | (word.op << 16);
  words[spec.VSOCK_HDR_FLAGS / 4] = flags;
  words[spec.VSOCK_HDR_BUF_ALLOC / 4] = word.bufAlloc;
  words[spec.VSOCK_HDR_FWD_CNT / 4] = word.fwdCnt;
  return header;
}

export function isSame(one: Address, other: Address): boolean {
  return (
    one.guestPort === other.guestPort &&
    one.port === other.port &&
    one.cid === other.cid &&
    one.type === other.type
  );
}

/** The same for all packets of a connection. */
export function nameOf({ cid, port, guestPort, type }: Address): string {
  return `${type}/${cid}:${port}/${guestPort}`;
}
