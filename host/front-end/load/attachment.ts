// A guest attached to a back-end: negotiated, its memory shared, its rings started.
import {
  VIRTIO_F_RING_EVENT_IDX,
  VIRTIO_F_RING_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
} from "../../../assembly/spec/virtqueue.ts";
import { VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD } from "../../protocol/messages.ts";
import { FrontEnd } from "../front-end.ts";
import { DrivenGuest, type GuestOptions } from "./driven-guest.ts";
import type { RingDriver } from "./ring-driver.ts";

/** What a ring that was never used starts from: the packed one has its wrap counters in it. */
const SPLIT_BASE = 0;
const PACKED_BASE = 0x80008000;

/** The back-end has not offered what the guest needs. The message is a phrase. */
export class NotOffered extends Error {}

export class Attachment {
  private constructor(
    readonly frontEnd: FrontEnd,
    readonly guest: DrivenGuest,
  ) {}

  static async make(driver: RingDriver, socketPath: string, options: GuestOptions): Promise<Attachment> {
    const frontEnd = await FrontEnd.open(socketPath);
    try {
      await frontEnd.negotiate(options);
      return await Attachment.on(frontEnd, driver, options);
    } catch (error) {
      frontEnd.close();
      throw error;
    }
  }

  /** Takes over a front-end that has negotiated, unless this fails. */
  static async on(frontEnd: FrontEnd, driver: RingDriver, options: GuestOptions): Promise<Attachment> {
    demandFeatures(frontEnd, options);
    const guest = new DrivenGuest(driver, options);
    try {
      // As QEMU does wherever it can.
      if (frontEnd.hasProtocolFeature(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD))
        await frontEnd.trackInflight(options.queues, guest.queueSize);
      await frontEnd.shareMemory(guest.memory);
      for (let i = 0; i < options.queues; i++) await startRing(frontEnd, guest, i, options.packed);
    } catch (error) {
      guest.close();
      throw error;
    }
    return new Attachment(frontEnd, guest);
  }

  /** Sectors of the disk. */
  get capacity(): number {
    return this.frontEnd.capacity;
  }

  close(): void {
    this.frontEnd.close();
    this.guest.close();
  }
}

function demandFeatures(frontEnd: FrontEnd, options: GuestOptions): void {
  const needed: [boolean, number, string][] = [
    [options.packed, VIRTIO_F_RING_PACKED, "packed rings"],
    [options.indirect, VIRTIO_F_RING_INDIRECT_DESC, "indirect descriptors"],
    [options.eventIdx, VIRTIO_F_RING_EVENT_IDX, "event indices"],
  ];
  for (const [isNeeded, bit, name] of needed) {
    if (isNeeded && !frontEnd.hasFeature(bit)) throw new NotOffered(`does not offer ${name}`);
  }
}

async function startRing(
  frontEnd: FrontEnd,
  guest: DrivenGuest,
  index: number,
  packed: boolean,
): Promise<void> {
  await frontEnd.setVringNum(index, guest.queueSize);
  await frontEnd.setVringBase(index, packed ? PACKED_BASE : SPLIT_BASE);
  await frontEnd.setVringAddr(guest.memory.vringAddress(index, guest.ringAddresses(index)));
  await frontEnd.setVringKick(index, guest.kickFds[index]!);
  await frontEnd.setVringCall(index, guest.callFd);
  await frontEnd.setVringEnable(index, true);
}
