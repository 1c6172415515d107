// The driver of a guest with sockets, without a guest: one stream, whose rings are looked at again and again. Packets lie in guest
// memory from the start, so that what it costs is little beside a back-end.
import * as spec from "../../../assembly/spec/virtio-vsock.ts";
import { NOTHING_USED, type Segment } from "../../../host/driver/ring.ts";
import { FrontEnd } from "../../../host/front-end/front-end.ts";
import type { Memory } from "../../../host/front-end/memory.ts";
import type { Virtqueue } from "../../../host/front-end/virtqueue.ts";
import { encode } from "../../support/vsock-packet.ts";

const RX = 0;
const TX = 1;
const QUEUES = 3;
const QUEUE_SIZE = 128;
/** As Linux has them: rooms of a page with the header in it, and this much for each socket. */
const ROOM_BYTES = 4096;
const ALLOC = 256 << 10;
/** The most that a packet holds, and so far Linux lets its peer's room shrink before it tells of more. */
export const PACKET_BYTES_MAX = 64 << 10;

interface Slot {
  readonly header: DataView;
  readonly gpa: number;
}

export class GuestRings {
  /** Data that has come to the guest. */
  received = 0;
  isConnected = false;
  private readonly rx: Virtqueue;
  private readonly tx: Virtqueue;
  private readonly rooms: (Slot & { readonly segments: readonly Segment[] })[] = [];
  private readonly free: Slot[] = [];
  private readonly sending: Slot[] = [];
  private port = 0;
  private guestPort = 0;
  private sent = 0;
  private peerAlloc = 0;
  private peerForwarded = 0;
  private told = 0;
  private hasNews = false;

  private constructor(
    private readonly frontEnd: FrontEnd,
    private readonly guestCid: number,
  ) {
    const { memory } = frontEnd;
    this.rx = frontEnd.queues[RX]!;
    this.tx = frontEnd.queues[TX]!;
    for (let i = 0; i < QUEUE_SIZE; i++) this.offerRoom(slotIn(memory, ROOM_BYTES));
    for (let i = 0; i < QUEUE_SIZE / 2; i++)
      this.free.push(slotIn(memory, spec.VSOCK_HDR_SIZE + PACKET_BYTES_MAX));
    this.rx.publish();
    this.rx.kick();
  }

  static async connect(socketPath: string, guestCid: number): Promise<GuestRings> {
    const options = { queues: QUEUES, queueSize: QUEUE_SIZE, configSize: 0 };
    return new GuestRings(await FrontEnd.connect(socketPath, options), guestCid);
  }

  /** Whether a packet of so many bytes may be sent now. */
  maySend(byteLength: number): boolean {
    const room = this.peerAlloc - ((this.sent - this.peerForwarded) >>> 0);
    // One stays for what has to be said.
    return this.isConnected && room >= byteLength && this.free.length > 1;
  }

  send(byteLength: number): void {
    this.say(spec.VIRTIO_VSOCK_OP_RW, byteLength);
    this.sent = (this.sent + byteLength) >>> 0;
  }

  /** Takes what has been used, and shows the device what there is to do. */
  turn(): void {
    for (let token = this.tx.popUsed(); token !== NOTHING_USED; token = this.tx.popUsed())
      this.free.push(this.sending[token]!);
    let taken = 0;
    for (let token = this.rx.popUsed(); token !== NOTHING_USED; token = this.rx.popUsed()) {
      const room = this.rooms[token]!;
      this.hear(room.header);
      this.offerRoom(room, room.segments);
      taken++;
    }
    if (taken > 0) {
      this.rx.publish();
      this.rx.kick();
    }
    if (this.hasNews) {
      this.hasNews = false;
      this.tx.publish();
      this.tx.kick();
    }
  }

  close(): void {
    this.frontEnd.close();
  }

  private hear(header: DataView): void {
    this.peerAlloc = header.getUint32(spec.VSOCK_HDR_BUF_ALLOC, true);
    this.peerForwarded = header.getUint32(spec.VSOCK_HDR_FWD_CNT, true);
    const op = header.getUint16(spec.VSOCK_HDR_OP, true);
    if (op === spec.VIRTIO_VSOCK_OP_REQUEST) {
      this.port = header.getUint32(spec.VSOCK_HDR_SRC_PORT, true);
      this.guestPort = header.getUint32(spec.VSOCK_HDR_DST_PORT, true);
      this.isConnected = true;
      this.say(spec.VIRTIO_VSOCK_OP_RESPONSE);
    } else if (op === spec.VIRTIO_VSOCK_OP_RW) {
      this.received += header.getUint32(spec.VSOCK_HDR_LEN, true);
      if (ALLOC - (this.received - this.told) < PACKET_BYTES_MAX)
        this.say(spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
    } else if (op === spec.VIRTIO_VSOCK_OP_CREDIT_REQUEST) this.say(spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
    else if (op !== spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE)
      throw new Error(`the device says ${op} in the middle of a stream`);
  }

  private say(op: number, byteLength = 0): void {
    const slot = this.free.pop();
    if (slot === undefined) throw new Error("no room in the ring to say something");
    const { header, gpa } = slot;
    const { port, guestPort, guestCid } = this;
    this.told = this.received;
    const packet = { op, port, guestPort, byteLength, bufAlloc: ALLOC, fwdCnt: this.received >>> 0 };
    new Uint8Array(header.buffer, header.byteOffset).set(encode({ ...packet, sourceCid: guestCid }));
    const segments: Segment[] = [{ gpa, length: spec.VSOCK_HDR_SIZE, writable: false }];
    if (byteLength > 0)
      segments.push({ gpa: gpa + spec.VSOCK_HDR_SIZE, length: byteLength, writable: false });
    this.sending[this.tx.add(segments)] = slot;
    this.hasNews = true;
  }

  private offerRoom(
    slot: Slot,
    segments: readonly Segment[] = [{ gpa: slot.gpa, length: ROOM_BYTES, writable: true }],
  ): void {
    this.rooms[this.rx.add(segments)] = { ...slot, segments };
  }
}

function slotIn(memory: Memory, byteLength: number): Slot {
  const gpa = memory.allocate(byteLength);
  return { gpa, header: new DataView(memory.view(gpa, spec.VSOCK_HDR_SIZE)) };
}
