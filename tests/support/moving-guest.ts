// One guest and the front-ends that it moves between, which have its memory in common: as a migration within a host looks to a
// back-end. The driver knows nothing of it.
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import { openConnection } from "../../host/front-end/requests.ts";
import { createEventfd } from "../../host/linux/eventfd.ts";
import { close } from "../../host/linux/libc.ts";
import { unixPair } from "../../host/linux/unix-socket.ts";
import * as m from "../../host/protocol/messages.ts";

/** Bit numbers. */
const PROTOCOL_FEATURES = [
  m.VHOST_USER_PROTOCOL_F_MQ,
  m.VHOST_USER_PROTOCOL_F_REPLY_ACK,
  m.VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  m.VHOST_USER_PROTOCOL_F_CONFIG,
  m.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  m.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
];

export const MOVING: FrontEndOptions = {
  queueSize: 256,
  inflight: true,
  protocolFeatures: PROTOCOL_FEATURES,
};

/** A front-end whose guest is another's: that closes what is the guest's. */
class Beside extends FrontEnd {
  override close(): void {
    this.disconnect();
  }
}

/** All that QEMU's destination says before the source stops: requests 1 15 16 17 36 21 3 1 13 14 24. */
export async function comeBeside(guest: FrontEnd, socketPath: string, options = MOVING): Promise<FrontEnd> {
  const frontEnd = new Beside(await openConnection(socketPath));
  await frontEnd.negotiate({ ...options, onlyAsks: true });
  await frontEnd.getMaxMemSlots();
  if (frontEnd.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_BACKEND_REQ)) {
    const [near, far] = unixPair();
    await frontEnd.setBackendReqFd(near);
    close(near);
    close(far);
  }
  await frontEnd.getFeatures();
  for (const index of guest.queues.keys()) {
    const call = createEventfd();
    await frontEnd.setVringCall(index, call);
    await frontEnd.setVringErr(index, call);
    close(call);
  }
  return frontEnd;
}

/** All of that up to the rings: requests 2 and 37. */
export async function bringMemory(frontEnd: FrontEnd, guest: FrontEnd): Promise<void> {
  await frontEnd.acceptFeatures();
  await frontEnd.shareMemory(guest.memory);
  frontEnd.queues.push(...guest.queues);
}

/**
 * The rings that the source has stopped go on: requests 8 10 9 12 18. With a new inflight region: one of before tells of the rings
 * as this front-end has left them.
 */
export async function startRings(frontEnd: FrontEnd, bases: readonly number[]): Promise<void> {
  await frontEnd.trackInflight(bases.length);
  for (const [index, base] of bases.entries()) await frontEnd.startQueue(index, base);
}

/** Requests 18 and 11. */
export async function stopRings(frontEnd: FrontEnd): Promise<number[]> {
  const bases = [];
  for (const index of frontEnd.queues.keys()) {
    await frontEnd.setVringEnable(index, false);
    bases.push(await frontEnd.stopQueue(index));
  }
  return bases;
}
