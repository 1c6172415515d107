// One request of the driver's: a segment of an I2C transaction, read from its chain once, and its answer (virtio 1.4, 5.16.6).
import * as spec from "../../../assembly/spec/virtio-i2c.ts";
import { I2C_MESSAGE_BYTES_MAX, type I2cMessage } from "../../linux/i2c-dev.ts";
import type { Chain } from "../device.ts";

const KNOWN_FLAGS = spec.VIRTIO_I2C_FLAGS_FAIL_NEXT | spec.VIRTIO_I2C_FLAGS_M_RD;
/** The bit behind the 7 of an address, and those of a longer one. */
const NOT_7_BITS = 0xff01;

export class Request {
  /** If it fails, so must the next one. */
  readonly isFollowed: boolean;
  /** Undefined: it makes no sense, or is for an address of 10 bits, where nobody is. */
  readonly address: number | undefined;
  private readonly isRead: boolean;
  private readonly byteLength: number;
  private answer: Uint8Array | undefined;

  constructor(readonly chain: Chain) {
    const { in: given, out: room } = chain;
    const hasHeader = given.left >= spec.I2C_OUT_HDR_SIZE;
    const address = hasHeader ? given.u16() : 0;
    if (hasHeader) given.u16();
    const flags = hasHeader ? given.u32() : 0;
    this.isFollowed = (flags & spec.VIRTIO_I2C_FLAGS_FAIL_NEXT) !== 0;
    this.isRead = (flags & spec.VIRTIO_I2C_FLAGS_M_RD) !== 0;
    // Data go one way, and the status comes behind them.
    this.byteLength = this.isRead ? room.left - 1 : given.left;
    const isWhole = hasHeader && room.left > 0 && (this.isRead ? given.left : room.left - 1) === 0;
    const isPossible = this.byteLength <= I2C_MESSAGE_BYTES_MAX && (address & NOT_7_BITS) === 0;
    this.address = isWhole && isPossible && (flags & ~KNOWN_FLAGS) === 0 ? address >> 1 : undefined;
  }

  /** Copies what is written, and has room for what is read: what a bus works on is never the guest's memory. Only with an address. */
  message(): I2cMessage {
    const { address, isRead, byteLength } = this;
    const bytes = isRead ? new Uint8Array(byteLength) : this.chain.in.bytes(byteLength);
    if (isRead) this.answer = bytes;
    return { address: address!, isRead, bytes };
  }

  succeed(): void {
    const { out } = this.chain;
    if (this.answer) out.bytes(this.answer);
    out.u8(spec.VIRTIO_I2C_MSG_OK);
    this.chain.use();
  }

  fail(): void {
    failChain(this.chain);
  }
}

/** The status is the last byte. What lies before it counts for nothing (5.16.6.3.1), and is left as it is, however long it is. */
export function failChain(chain: Chain): void {
  const { out } = chain;
  if (out.left > 1) out.views(out.left - 1);
  if (out.left > 0) out.u8(spec.VIRTIO_I2C_MSG_ERR);
  chain.use();
}
