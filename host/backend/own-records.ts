// A record of chains in flight of our own, where the front-end gives none: what a device holds while its ring is stopped must be
// found again when the ring goes on. It ends with the front-end's connection and with a reset, as the front-end's region does.
import { INFLIGHT_REGION_VERSION } from "../../assembly/spec/inflight.ts";
import { GuestMemoryError } from "../memory/guest-memory.ts";
import { createInflightRegion, type InflightRegion } from "../memory/inflight-region.ts";
import type { LinearMemory } from "../memory/linear-memory.ts";
import { initialBase } from "../session/vring.ts";
import type { VringStart } from "../workers/data-plane.ts";

export class OwnRecords {
  private isOwn = false;

  constructor(
    private readonly region: InflightRegion,
    private readonly linear: LinearMemory,
    private readonly queueCount: number,
  ) {}

  /** The same start, with a record if there can be one. */
  recorded(start: VringStart): VringStart {
    if (!this.region.isSet) this.isOwn = this.open(start);
    if (!this.isOwn) return start;
    const inflight = this.region.forQueue(start.index, start.size, start.packed);
    // A ring that begins anew: what its former life has left is nobody's any more.
    if (inflight && start.base === initialBase(start))
      this.linear.view.setUint16(inflight.ptr + INFLIGHT_REGION_VERSION, 0, true);
    return { ...start, inflight };
  }

  /** False for more and larger queues than a region has room for. */
  private open({ size, packed }: VringStart): boolean {
    try {
      const { description, fd } = createInflightRegion(this.queueCount, size, packed);
      this.region.set(description, fd);
      return true;
    } catch (error) {
      if (!(error instanceof GuestMemoryError)) throw error;
      return false;
    }
  }
}
