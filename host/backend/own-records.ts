// A record of chains in flight of our own, where the front-end gives none: what a device holds while its ring is stopped must be
// found again when the ring goes on. It ends with the front-end's connection and with a reset, as the front-end's region does.
import { INFLIGHT_REGION_VERSION } from "../../assembly/spec/inflight.ts";
import { USED_IDX } from "../../assembly/spec/virtqueue.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { createInflightRegion, type InflightRegion } from "../memory/inflight-region.ts";
import { GuestMemoryError } from "../memory/region-list.ts";
import { initialBase } from "../session/vring.ts";
import type { VringStart } from "../workers/data-plane.ts";

export class OwnRecords {
  constructor(
    private readonly region: Pick<InflightRegion, "isSet" | "description" | "set" | "forQueue">,
    private readonly memory: { readonly linear: Pick<GuestMemory["linear"], "view"> } & Pick<
      GuestMemory,
      "u16At"
    >,
    private readonly queueCount: number,
  ) {}

  /** The same start, with a record if there can be one. */
  recorded(start: VringStart): VringStart {
    if (!this.region.isSet) this.open(start);
    // The front-end's may have come in its place, and is its business alone.
    if (!this.region.description?.isOwn) return start;
    const inflight = this.region.forQueue(start.index, start.size, start.packed);
    // A ring that begins anew: what its former life has left is nobody's any more.
    if (inflight && this.beginsAnew(start))
      this.memory.linear.view.setUint16(inflight.ptr + INFLIGHT_REGION_VERSION, 0, true);
    return { ...start, inflight };
  }

  /**
   * The base of a split ring is 0 again after 65,536 chains. What it has given back by then is as many, unless its device holds some;
   * a packed ring's base tells of both.
   */
  private beginsAnew(start: VringStart): boolean {
    if (start.base !== initialBase(start)) return false;
    return start.packed || this.memory.u16At(start.devicePtr + USED_IDX) === 0;
  }

  /** None for more and larger queues than a region has room for. */
  private open({ size, packed }: VringStart): void {
    try {
      const { description, fd } = createInflightRegion(this.queueCount, size, packed);
      this.region.set({ ...description, isOwn: true }, fd);
    } catch (error) {
      if (!(error instanceof GuestMemoryError)) throw error;
    }
  }
}
