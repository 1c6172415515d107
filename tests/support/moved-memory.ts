// Plays the part of a migration that a front-end plays, but for the second machine: copies guest memory pass by pass while the guest
// and its devices write it, by the log that the back-end keeps, and compares the copy with the memory.
import { VIRTIO_F_RING_EVENT_IDX } from "../../assembly/spec/virtqueue.ts";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import type { Memory } from "../../host/front-end/memory.ts";
import { close, viewOf } from "../../host/linux/libc.ts";
import { mapShared, unmap } from "../../host/linux/mapping.ts";
import { createMemfd } from "../../host/linux/memfd.ts";
import { featureMask } from "../../host/protocol/feature-bits.ts";
import * as m from "../../host/protocol/messages.ts";

export const LOG_PAGE = 4096;
const LOG_ALL = featureMask([m.VHOST_F_LOG_ALL]);

/** A log for guest memory up to `guestEnd`, as QEMU makes it: whole words of 64 bits. */
export class MigrationLog {
  readonly fd: number;
  readonly byteLength: number;
  private readonly address: number;
  private readonly words: BigUint64Array;

  constructor(guestEnd: number) {
    this.byteLength = Math.ceil(guestEnd / LOG_PAGE / 64) * 8;
    this.fd = createMemfd("log", this.byteLength);
    this.address = mapShared(this.fd, 0n, this.byteLength);
    this.words = new BigUint64Array(viewOf(this.address, this.byteLength));
  }

  get description() {
    return { mmapSize: BigInt(this.byteLength), mmapOffset: 0n };
  }

  /** Takes away the bits that are set, and gives their guest addresses. Before a page is copied: what comes later is logged again. */
  take(): number[] {
    const pages: number[] = [];
    for (let i = 0; i < this.words.length; i++) {
      if (this.words[i] === 0n) continue;
      const word = Atomics.exchange(this.words, i, 0n);
      for (let bit = 0; bit < 64; bit++)
        if ((word >> BigInt(bit)) & 1n) pages.push((i * 64 + bit) * LOG_PAGE);
    }
    return pages;
  }

  close(): void {
    unmap(this.address, this.byteLength);
    close(this.fd);
  }
}

export interface CopiedRegion {
  gpa: number;
  byteLength: number;
}

/** The destination's memory, as far as it was copied. */
export class MovedMemory {
  private readonly copies: (CopiedRegion & { bytes: Buffer })[];

  /** Only these regions are compared. All is copied once. */
  constructor(
    private readonly memory: Memory,
    regions: readonly CopiedRegion[],
  ) {
    this.copies = regions.map(({ gpa, byteLength }) => ({
      gpa,
      byteLength,
      bytes: memory.read(gpa, byteLength),
    }));
  }

  copyPages(pages: readonly number[]): void {
    for (const gpa of pages) this.copyRange(gpa, LOG_PAGE);
  }

  copyRange(gpa: number, byteLength: number): void {
    for (const copy of this.copies) {
      if (gpa < copy.gpa || gpa >= copy.gpa + copy.byteLength) continue;
      const length = Math.min(byteLength, copy.gpa + copy.byteLength - gpa);
      copy.bytes.set(this.memory.bytes(gpa, length), gpa - copy.gpa);
    }
  }

  /** Guest addresses of pages that are not what they were copied from. */
  wrongPages(): number[] {
    return this.copies.flatMap(({ gpa, byteLength, bytes }) => {
      const now = this.memory.bytes(gpa, byteLength);
      const wrong: number[] = [];
      for (let at = 0; at < byteLength; at += LOG_PAGE) {
        if (!bytes.subarray(at, at + LOG_PAGE).equals(now.subarray(at, at + LOG_PAGE))) wrong.push(gpa + at);
      }
      return wrong;
    });
  }
}

/** Requests 6 2 9, as QEMU has logging begin. The log in use must be the last that was brought. */
export async function startLogging(frontEnd: FrontEnd, log: MigrationLog): Promise<void> {
  const answer = await frontEnd.setLogBase(log.description, log.fd);
  if (answer !== 0n) throw new Error(`SET_LOG_BASE was answered with ${answer}`);
  const accepted = await frontEnd.setFeatures(frontEnd.features | LOG_ALL);
  if (accepted !== 0n) throw new Error("VHOST_F_LOG_ALL was refused");
  await setLogFlags(frontEnd, 1 << m.VHOST_VRING_F_LOG);
}

export async function endLogging(frontEnd: FrontEnd): Promise<void> {
  await frontEnd.setFeatures(frontEnd.features & ~LOG_ALL);
  await setLogFlags(frontEnd, 0);
}

async function setLogFlags(frontEnd: FrontEnd, flags: number): Promise<void> {
  for (const [index, { ring }] of frontEnd.queues.entries()) {
    const address = { ...frontEnd.memory.vringAddress(index, ring.addresses), flags };
    if ((await frontEnd.setVringAddr(address)) !== 0n) throw new Error("SET_VRING_ADDR was refused");
  }
}

/** Whether event indices were negotiated, for those who make rings themselves. */
export function hasEventIdx(frontEnd: FrontEnd): boolean {
  return frontEnd.hasFeature(VIRTIO_F_RING_EVENT_IDX);
}
