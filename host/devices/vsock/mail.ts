// What the device says to the guest: whoever has something waits for the driver's buffers here, in turn. Nothing is queued but who
// waits, so a guest that offers no buffers makes nothing grow.
import * as spec from "../../../assembly/spec/virtio-vsock.ts";
import type { Chain, DeviceQueue } from "../device.ts";
import { type Address, headerOf, nameOf, type Word, wordOf } from "./packet.ts";

/** What one speaker says at a time: the largest packet that Linux takes, or as many smaller ones. */
const DATA_MAX = 64 << 10;
/** Buffers that these take at the most: of a page each, as Linux has them. */
const SLOTS_MAX = 17;
/** Refusals that wait at the most; who asked for others waits in vain. The driver's own time-outs end that. */
const REFUSALS_MAX = 1024;
/** Buffers to have at hand while there is something to say. */
const AHEAD = 32;

export interface Speaker extends Address {
  readonly hasWord: boolean;
  /** The next word; its data lies in the room already. Undefined: there is none after all. */
  speak(room: readonly Uint8Array[], roomBytes: number): Word | undefined;
}

/** A buffer of the driver's. */
interface Slot {
  readonly chain: Chain;
  readonly header: readonly Uint8Array[];
  readonly room: readonly Uint8Array[];
  readonly roomBytes: number;
}

export class Mail {
  private queue: DeviceQueue | undefined;
  /** At hand, in their order. */
  private slots: Slot[] = [];
  private readonly speakers = new Set<Speaker>();
  private readonly refusals = new Map<string, Address>();
  private isDelivering = false;

  constructor(private readonly guestCid: number) {}

  start(queue: DeviceQueue): void {
    this.queue = queue;
    queue.onAvailable(() => this.deliver());
    this.deliver();
  }

  stop(): void {
    this.queue = undefined;
    for (const { chain } of this.slots) chain.park();
    this.slots = [];
  }

  /** It has something to say, if it says so itself. */
  announce(speaker: Speaker): void {
    if (!speaker.hasWord) return;
    this.speakers.add(speaker);
    this.deliver();
  }

  /** It has no more to say. */
  withdraw(speaker: Speaker): void {
    this.speakers.delete(speaker);
  }

  /** RST: there is no such connection, or no longer. */
  refuse(address: Address): void {
    if (this.refusals.size >= REFUSALS_MAX) return;
    this.refusals.set(nameOf(address), address);
    this.deliver();
  }

  /** A new connection between these ports must not hear what was said of one before. */
  forgive(address: Address): void {
    this.refusals.delete(nameOf(address));
  }

  /** The driver has begun anew. */
  clear(): void {
    this.speakers.clear();
    this.refusals.clear();
  }

  private deliver(): void {
    if (this.isDelivering) return;
    this.isDelivering = true;
    try {
      while (this.refusals.size + this.speakers.size > 0 && this.takeSlots()) this.deliverNext();
    } finally {
      this.isDelivering = false;
    }
  }

  private deliverNext(): void {
    if (this.refusals.size > 0) {
      const [name, address] = this.refusals.entries().next().value!;
      this.refusals.delete(name);
      this.put(address, wordOf(spec.VIRTIO_VSOCK_OP_RST));
      return;
    }
    const speaker = this.speakers.values().next().value!;
    this.speakers.delete(speaker);
    const word = this.wordOf(speaker);
    if (word) this.put(speaker, word);
    // The others first.
    if (speaker.hasWord) this.speakers.add(speaker);
  }

  private wordOf(speaker: Speaker): Word | undefined {
    const room: Uint8Array[] = [];
    let roomBytes = 0;
    for (const slot of this.slots) {
      if (roomBytes + slot.roomBytes > DATA_MAX) break;
      for (const part of slot.room) room.push(part);
      roomBytes += slot.roomBytes;
    }
    return speaker.speak(room, roomBytes);
  }

  /** Data that fill more than one buffer are as many packets: a message ends with the last. */
  private put(address: Address, word: Word): void {
    let left = word.byteLength;
    let used = 0;
    do {
      const slot = this.slots[used++]!;
      const byteLength = Math.min(left, slot.roomBytes);
      left -= byteLength;
      const flags = left > 0 ? 0 : word.flags;
      fill(slot.header, headerOf(address, this.guestCid, word, byteLength, flags));
      slot.chain.use(spec.VSOCK_HDR_SIZE + byteLength);
    } while (left > 0);
    this.slots.splice(0, used);
  }

  /** Whether there is one at least. */
  private takeSlots(): boolean {
    while (this.slots.length < SLOTS_MAX) {
      const chain = this.queue?.tryTake(AHEAD);
      if (chain === undefined) break;
      // Not even data of a byte would fit: no buffer of a driver that means to receive.
      if (chain.out.left <= spec.VSOCK_HDR_SIZE) chain.use(0);
      else this.slots.push(slotOf(chain));
    }
    return this.slots.length > 0;
  }
}

function fill(places: readonly Uint8Array[], bytes: Uint8Array): void {
  let at = 0;
  for (const place of places) {
    place.set(at === 0 && place.length === bytes.length ? bytes : bytes.subarray(at, at + place.length));
    at += place.length;
  }
}

function slotOf(chain: Chain): Slot {
  const header = chain.out.views(spec.VSOCK_HDR_SIZE);
  const roomBytes = Math.min(chain.out.left, DATA_MAX);
  return { chain, header, room: chain.out.views(roomBytes), roomBytes };
}
