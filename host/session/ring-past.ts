// Whether a ring that is about to start has run before: under another daemon, or on another host.
import { AVAIL_IDX, PACKED_DESC_FLAGS } from "../../assembly/spec/virtqueue.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import type { VringStart } from "../workers/data-plane.ts";
import { initialBase } from "./vring.ts";

/**
 * After a crash the front-end may not know: QEMU then sends the base that a packed ring had long ago, which can be the
 * initial one. So the ring and its part of the inflight region are asked, too. A driver that has made requests available
 * before its ring was first started looks the same as one that has run.
 */
export function hasPast(start: VringStart, memory: Pick<GuestMemory, "u16At">): boolean {
  const { packed, base, descPtr, driverPtr, inflight } = start;
  if (base !== initialBase(start) || inflight?.isUsed) return true;
  return memory.u16At(packed ? descPtr + PACKED_DESC_FLAGS : driverPtr + AVAIL_IDX) !== 0;
}
