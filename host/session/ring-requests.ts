// Requests that describe rings, start them, stop them and say where they are.
import { isNotifier } from "../linux/eventfd.ts";
import * as codec from "../protocol/codec.ts";
import type { Message } from "../protocol/connection.ts";
import * as m from "../protocol/messages.ts";
import type { Payload } from "./request.ts";
import { NO_FD, type Vring } from "./vring.ts";
import type { Vrings } from "./vrings.ts";

const LOG_FLAG = 1 << m.VHOST_VRING_F_LOG;

export class RingRequests {
  constructor(
    private readonly vrings: Vrings,
    private readonly queueCount: number,
    /** Whether GET_VRING_BASE leaves requests in flight, recorded. */
    private readonly suspends: () => boolean,
    /** A ring has stopped, and all that was written for it is logged. */
    private readonly stopped: () => void,
  ) {}

  getQueueNum(message: Message): Payload {
    codec.decodeNothing(message);
    return codec.encodeU64(BigInt(this.queueCount));
  }

  setVringNum(message: Message): void {
    const { index, num } = codec.decodeVringState(message);
    this.vrings.at(index, "SET_VRING_NUM").setSize(num, this.vrings.format);
  }

  async setVringAddr(message: Message): Promise<void> {
    const { index, flags, ...addresses } = codec.decodeVringAddress(message);
    const vring = this.vrings.at(index, "SET_VRING_ADDR");
    // Where to log writes to the ring is known by its addresses. QEMU sends them again with and without the flag while it runs.
    if ((flags & ~LOG_FLAG) !== 0) throw vring.refusal("SET_VRING_ADDR", `flags 0x${flags.toString(16)}`);
    await this.vrings.setAddresses(vring, addresses);
  }

  setVringBase(message: Message): void {
    const { index, num } = codec.decodeVringState(message);
    this.vrings.at(index, "SET_VRING_BASE").setBase(num, this.vrings.format);
  }

  async getVringBase(message: Message): Promise<Payload> {
    const { index } = codec.decodeVringState(message);
    const num = await this.vrings.stopForBase(this.vrings.at(index, "GET_VRING_BASE"), this.suspends());
    this.stopped();
    return codec.encodeVringState({ index, num });
  }

  async setVringKick(message: Message): Promise<void> {
    const vring = this.notifiedVring(message);
    await this.vrings.setKick(vring, message.fds.pop() ?? NO_FD);
  }

  async setVringCall(message: Message): Promise<void> {
    const vring = this.notifiedVring(message);
    await this.vrings.setCall(vring, message.fds.pop() ?? NO_FD);
  }

  setVringErr(message: Message): void {
    const vring = this.notifiedVring(message);
    vring.setErr(message.fds.pop() ?? NO_FD);
  }

  async setVringEnable(message: Message): Promise<void> {
    const { index, num } = codec.decodeVringState(message);
    const vring = this.vrings.at(index, "SET_VRING_ENABLE");
    if (num > 1) throw vring.refusal("SET_VRING_ENABLE", `num ${num}`);
    await this.vrings.setEnabled(vring, num === 1);
  }

  /** The ring that a kick, call or error descriptor is for, once it is sure that there is a good one or none. */
  private notifiedVring(message: Message): Vring {
    const value = Number(codec.decodeU64(message) & 0xffffn);
    const name = m.requestName(message.request);
    const vring = this.vrings.at(value & m.VHOST_USER_VRING_IDX_MASK, name);
    const [fd] = message.fds;
    const hasFd = (value & m.VHOST_USER_VRING_NOFD_MASK) === 0;
    if (hasFd !== (fd !== undefined))
      throw vring.refusal(name, hasFd ? "no descriptor" : "an unexpected descriptor");
    if (fd !== undefined && !isNotifier(fd)) throw vring.refusal(name, "no eventfd, pipe or socket");
    return vring;
  }
}
