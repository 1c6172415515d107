// Packets of a guest with sockets, as its driver writes and reads them.
import assert from "node:assert/strict";
import * as spec from "../../assembly/spec/virtio-vsock.ts";

/** Operations, as the tests call them. */
export const {
  VIRTIO_VSOCK_OP_REQUEST: REQUEST,
  VIRTIO_VSOCK_OP_RESPONSE: RESPONSE,
  VIRTIO_VSOCK_OP_RST: RST,
  VIRTIO_VSOCK_OP_SHUTDOWN: SHUTDOWN,
  VIRTIO_VSOCK_OP_RW: RW,
  VIRTIO_VSOCK_OP_CREDIT_UPDATE: CREDIT_UPDATE,
  VIRTIO_VSOCK_OP_CREDIT_REQUEST: CREDIT_REQUEST,
} = spec;
/** Flags of SHUTDOWN: what its sender will not do any more. */
export const NO_RECEIVE = 1 << spec.VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE;
export const NO_SEND = 1 << spec.VIRTIO_VSOCK_SHUTDOWN_F_SEND;
export const BOTH = NO_RECEIVE | NO_SEND;

export const GUEST_CID = 42;
/** Of the driver of ours, unless told otherwise. */
export const GUEST_ALLOC = 1 << 20;

export interface VsockPacket {
  op: number;
  port: number;
  guestPort: number;
  cid?: number;
  sourceCid?: number;
  type?: number;
  flags?: number;
  bufAlloc?: number;
  fwdCnt?: number;
  /** Left out: that of the data. */
  byteLength?: number;
  data?: Buffer;
}

export type Heard = Required<VsockPacket>;

export function encode(packet: VsockPacket): Buffer {
  const { op, port, guestPort, data, byteLength = data?.length ?? 0 } = packet;
  const { cid = spec.VSOCK_CID_HOST, sourceCid = GUEST_CID, type = spec.VIRTIO_VSOCK_TYPE_STREAM } = packet;
  const header = Buffer.alloc(spec.VSOCK_HDR_SIZE);
  header.writeBigUInt64LE(BigInt(sourceCid), spec.VSOCK_HDR_SRC_CID);
  header.writeBigUInt64LE(BigInt(cid), spec.VSOCK_HDR_DST_CID);
  header.writeUInt32LE(guestPort, spec.VSOCK_HDR_SRC_PORT);
  header.writeUInt32LE(port, spec.VSOCK_HDR_DST_PORT);
  header.writeUInt32LE(byteLength, spec.VSOCK_HDR_LEN);
  header.writeUInt16LE(type, spec.VSOCK_HDR_TYPE);
  header.writeUInt16LE(op, spec.VSOCK_HDR_OP);
  header.writeUInt32LE(packet.flags ?? 0, spec.VSOCK_HDR_FLAGS);
  header.writeUInt32LE(packet.bufAlloc ?? GUEST_ALLOC, spec.VSOCK_HDR_BUF_ALLOC);
  header.writeUInt32LE(packet.fwdCnt ?? 0, spec.VSOCK_HDR_FWD_CNT);
  return header;
}

export function decode(bytes: Buffer, guestCid = GUEST_CID): Heard {
  assert.ok(bytes.length >= spec.VSOCK_HDR_SIZE);
  const byteLength = bytes.readUInt32LE(spec.VSOCK_HDR_LEN);
  const data = bytes.subarray(spec.VSOCK_HDR_SIZE);
  assert.equal(data.length, byteLength, "the used length is the packet's");
  assert.equal(bytes.readBigUInt64LE(spec.VSOCK_HDR_DST_CID), BigInt(guestCid));
  return {
    sourceCid: Number(bytes.readBigUInt64LE(spec.VSOCK_HDR_DST_CID)),
    cid: Number(bytes.readBigUInt64LE(spec.VSOCK_HDR_SRC_CID)),
    port: bytes.readUInt32LE(spec.VSOCK_HDR_SRC_PORT),
    guestPort: bytes.readUInt32LE(spec.VSOCK_HDR_DST_PORT),
    type: bytes.readUInt16LE(spec.VSOCK_HDR_TYPE),
    op: bytes.readUInt16LE(spec.VSOCK_HDR_OP),
    flags: bytes.readUInt32LE(spec.VSOCK_HDR_FLAGS),
    bufAlloc: bytes.readUInt32LE(spec.VSOCK_HDR_BUF_ALLOC),
    fwdCnt: bytes.readUInt32LE(spec.VSOCK_HDR_FWD_CNT),
    byteLength,
    data,
  };
}
