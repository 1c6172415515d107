// One ring as the front-end has described it so far, and whether that makes a ring that can run.
import {
  AVAIL_ALIGN,
  AVAIL_FIXED_SIZE,
  AVAIL_RING_ENTRY_SIZE,
  DESC_ALIGN,
  DESC_SIZE,
  EVENT_SUPPRESS_ALIGN,
  EVENT_SUPPRESS_SIZE,
  PACKED_DESC_SIZE,
  USED_ALIGN,
  USED_ELEM_SIZE,
  USED_FIXED_SIZE,
  VIRTQ_SIZE_MAX,
  VIRTQ_SIZE_MIN,
} from "../../assembly/spec/virtqueue.ts";
import { ProtocolError } from "../errors.ts";
import { Descriptor, descriptorOf } from "../linux/descriptor.ts";
import { close } from "../linux/libc.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import type { InflightRegion } from "../memory/inflight-region.ts";
import { GuestMemoryError } from "../memory/region-list.ts";
import type { VringStart } from "../workers/data-plane.ts";
import type { VringState } from "./session-state.ts";

/** What the negotiated features make of every ring. */
export interface RingFormat {
  packed: boolean;
  eventIdx: boolean;
}

/** User addresses, as they came with SET_VRING_ADDR. */
export interface RingAddresses {
  descriptor: bigint;
  available: bigint;
  used: bigint;
}

export type RingMemory = Pick<GuestMemory, "userToPtr" | "userToGpa">;
export type RingInflight = Pick<InflightRegion, "forQueue" | "isSet">;
type RingPointers = Pick<VringStart, "descPtr" | "driverPtr" | "devicePtr" | "descGpa" | "deviceGpa">;

/** No descriptor: the ring is polled, or the driver polls. */
export const NO_FD = -1;

/** Where a ring begins. Packed: both indices 0, both wrap counters 1 (virtio 1.4, 2.8.1). */
export function initialBase({ packed }: Pick<RingFormat, "packed">): number {
  return packed ? 0x80008000 : 0;
}

export class Vring {
  size: number | undefined;
  addresses: RingAddresses | undefined;
  /** As in SET_VRING_BASE. */
  base: number | undefined;
  /** Set once the front-end has started the ring. */
  kickFd: number | undefined;
  callFd = NO_FD;
  errFd = NO_FD;
  isEnabled = false;
  /** The data plane has it. */
  isRunning = false;
  /** Since the front-end connected. */
  hasStarted = false;
  /** It broke, and must not be touched before the front-end starts it anew. */
  isBroken = false;

  constructor(readonly index: number) {}

  /** Started and enabled ("Ring states"), and told what it takes to run. */
  get isReady(): boolean {
    return (
      this.isEnabled && this.kickFd !== undefined && this.size !== undefined && this.addresses !== undefined
    );
  }

  setSize(size: number, format: RingFormat): void {
    if (this.isRunning && size !== this.size) throw this.refusal("SET_VRING_NUM", "the ring is running");
    if (size < VIRTQ_SIZE_MIN || size > VIRTQ_SIZE_MAX) throw this.refusal("SET_VRING_NUM", `size ${size}`);
    this.checkSize(size, format);
    this.size = size;
  }

  setBase(base: number, format: RingFormat): void {
    if (this.isRunning) throw this.refusal("SET_VRING_BASE", "the ring is running");
    this.checkBase(base, format);
    this.base = base;
  }

  /** Everything that the data plane needs to run the ring, checked. */
  describe(memory: RingMemory, inflight: RingInflight, format: RingFormat): VringStart {
    const pointers = this.locate(memory, format);
    const base = this.base ?? initialBase(format);
    this.checkBase(base, format);
    const { index, kickFd = NO_FD, callFd } = this;
    const size = this.size!;
    const recorded = inflight.forQueue(index, size, format.packed);
    return { index, size, ...format, ...pointers, base, kickFd, callFd, inflight: recorded };
  }

  /** Where the ring's parts lie in linear memory, and those that we write for the guest. */
  locate(memory: RingMemory, { packed, eventIdx }: RingFormat): RingPointers {
    const size = this.size!;
    this.checkSize(size, { packed });
    const { descriptor, available, used } = this.addresses!;
    const layout = packed ? packedLayout(size) : splitLayout(size, eventIdx);
    return {
      descPtr: this.resolve(memory, layout.desc, descriptor),
      driverPtr: this.resolve(memory, layout.driver, available),
      devicePtr: this.resolve(memory, layout.device, used),
      descGpa: memory.userToGpa(descriptor),
      deviceGpa: memory.userToGpa(used),
    };
  }

  /** Takes the descriptor and closes the one before. */
  setKick(fd: number | undefined): void {
    if (this.kickFd !== undefined) closeFd(this.kickFd);
    this.kickFd = fd;
    this.isBroken = false;
  }

  /** The same. A running ring must have stopped using the one before. */
  setCall(fd: number): void {
    closeFd(this.callFd);
    this.callFd = fd;
  }

  setErr(fd: number): void {
    closeFd(this.errFd);
    this.errFd = fd;
  }

  /** Back to stopped; the next start brings a new kick and a new call, as libvhost-user has it. */
  closeNotifiers(): void {
    this.setKick(undefined);
    this.setCall(NO_FD);
  }

  /** The state a ring is born in, but for the error eventfd: QEMU gives that once a connection, not once a reset. */
  reset(): void {
    this.closeNotifiers();
    this.size = undefined;
    this.addresses = undefined;
    this.base = undefined;
    this.isEnabled = false;
  }

  /** Its descriptors stay its own. */
  save(): VringState {
    const { size, addresses, base, kickFd, callFd, errFd, isEnabled, hasStarted, isBroken } = this;
    const kick = kickFd === NO_FD ? "none" : descriptorOf(kickFd);
    const [call, err] = [descriptorOf(callFd), descriptorOf(errFd)];
    return { size, addresses, base, kick, call, err, isEnabled, hasStarted, isBroken };
  }

  /** Of a ring that was not described yet. Takes the descriptors. */
  restore({ kick, call, err, ...told }: VringState): void {
    Object.assign(this, told);
    this.kickFd = kick instanceof Descriptor ? kick.fd : kick && NO_FD;
    this.callFd = call?.fd ?? NO_FD;
    this.errFd = err?.fd ?? NO_FD;
  }

  refusal(request: string, reason: string): ProtocolError {
    return new ProtocolError(request, `ring ${this.index}: ${reason}`);
  }

  private resolve(memory: RingMemory, part: Part, userAddress: bigint): number {
    const ptr = this.find(memory, part, userAddress);
    const where = `${part.name} at 0x${userAddress.toString(16)}`;
    if (ptr === undefined) throw this.refusal("SET_VRING_ADDR", `${where} is not in guest memory`);
    // Atomic accesses in the core trap when unaligned.
    if (ptr % part.align !== 0) throw this.refusal("SET_VRING_ADDR", `${where} is misaligned`);
    return ptr;
  }

  private find(memory: RingMemory, part: Part, userAddress: bigint): number | undefined {
    try {
      return memory.userToPtr(userAddress, part.byteLength);
    } catch (error) {
      if (!(error instanceof GuestMemoryError)) throw error;
      const where = `${part.name} at 0x${userAddress.toString(16)}`;
      throw this.refusal("SET_VRING_ADDR", `${where}: ${error.message}`);
    }
  }

  /** virtio 1.4, 2.7. Once more at the start: PACKED may have been given up since. */
  private checkSize(size: number, { packed }: Pick<RingFormat, "packed">): void {
    if (packed || (size & (size - 1)) === 0) return;
    throw this.refusal("SET_VRING_NUM", `size ${size} of a split ring is no power of two`);
  }

  /** As far as it can be told: the size may come later. */
  private checkBase(base: number, { packed }: RingFormat): void {
    const isValid = packed ? isPackedBase(base, this.size ?? VIRTQ_SIZE_MAX) : base <= 0xffff;
    if (!isValid) throw this.refusal("SET_VRING_BASE", `base 0x${base.toString(16)}`);
  }
}

interface Part {
  name: string;
  byteLength: number;
  align: number;
}

type Layout = Record<"desc" | "driver" | "device", Part>;

/** virtio 1.4, 2.7. The event fields at the ends exist only with EVENT_IDX. */
function splitLayout(size: number, eventIdx: boolean): Layout {
  const withoutEvent = eventIdx ? 0 : 2;
  const availLength = AVAIL_FIXED_SIZE + size * AVAIL_RING_ENTRY_SIZE - withoutEvent;
  const usedLength = USED_FIXED_SIZE + size * USED_ELEM_SIZE - withoutEvent;
  return {
    desc: { name: "descriptor table", byteLength: size * DESC_SIZE, align: DESC_ALIGN },
    driver: { name: "avail ring", byteLength: availLength, align: AVAIL_ALIGN },
    device: { name: "used ring", byteLength: usedLength, align: USED_ALIGN },
  };
}

/** virtio 1.4, 2.8.10.1. */
function packedLayout(size: number): Layout {
  const event = { byteLength: EVENT_SUPPRESS_SIZE, align: EVENT_SUPPRESS_ALIGN };
  return {
    desc: { name: "descriptor ring", byteLength: size * PACKED_DESC_SIZE, align: DESC_ALIGN },
    driver: { name: "driver event suppression", ...event },
    device: { name: "device event suppression", ...event },
  };
}

/** "Vring descriptor indices for packed virtqueues": bits 0 to 14 and 16 to 30 are indices, the others wrap counters. */
function isPackedBase(base: number, size: number): boolean {
  return (base & 0x7fff) < size && ((base >>> 16) & 0x7fff) < size;
}

function closeFd(fd: number): void {
  if (fd !== NO_FD) close(fd);
}
