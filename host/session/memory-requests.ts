// Requests that bring guest memory and the inflight region. What comes is mapped while no ring runs.
import { ProtocolError } from "../errors.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { createInflightRegion, type InflightRegion } from "../memory/inflight-region.ts";
import * as codec from "../protocol/codec.ts";
import type { Message } from "../protocol/connection.ts";
import { asFrontEnds, type Payload } from "./request.ts";
import type { InflightState, RegionState } from "./session-state.ts";
import type { Vrings } from "./vrings.ts";

export type SessionMemory = Pick<
  GuestMemory,
  "replace" | "add" | "remove" | "clear" | "regionCount" | "guestEnd" | "userToPtr" | "userToGpa" | "u16At"
> & {
  /** The descriptors stay its own. */
  save(): RegionState[];
};
export type SessionInflight = Pick<InflightRegion, "set" | "clear" | "forQueue" | "isSet"> & {
  /** The same. */
  save(): InflightState | undefined;
};

/** Guest memory slots: as many as the kernel's own vhost has. */
const MAX_MEM_SLOTS = 509;

/** A size of 0 says that there is none. */
export const NO_INFLIGHT = codec.encodeInflight({ mmapSize: 0n, mmapOffset: 0n, numQueues: 0, queueSize: 0 });

export class MemoryRequests {
  constructor(
    private readonly memory: SessionMemory,
    private readonly inflight: SessionInflight,
    private readonly vrings: Vrings,
    private readonly queueCount: number,
    /** Takes a descriptor that goes with the reply being made. */
    private readonly replyWith: (fd: number) => void,
  ) {}

  async setMemTable(message: Message): Promise<void> {
    const descriptions = codec.decodeMemoryTable(message);
    if (descriptions.length !== message.fds.length) {
      throw new ProtocolError(
        "SET_MEM_TABLE",
        `${descriptions.length} regions, ${message.fds.length} descriptors`,
      );
    }
    await this.change("SET_MEM_TABLE", (memory) => {
      const fds = message.fds.splice(0);
      memory.replace(descriptions.map((description, i) => ({ description, fd: fds[i]! })));
    });
  }

  getMaxMemSlots(message: Message): Payload {
    codec.decodeNothing(message);
    return codec.encodeU64(BigInt(MAX_MEM_SLOTS));
  }

  async addMemReg(message: Message): Promise<void> {
    const description = codec.decodeSingleRegion(message);
    if (this.memory.regionCount >= MAX_MEM_SLOTS) {
      throw new ProtocolError("ADD_MEM_REG", "all slots are taken");
    }
    await this.change("ADD_MEM_REG", (memory) => memory.add(description, message.fds.pop()!));
  }

  /** "If a file descriptor is passed, the back-end MUST close it without using it otherwise." */
  async remMemReg(message: Message): Promise<void> {
    const description = codec.decodeSingleRegion(message);
    await this.change("REM_MEM_REG", (memory) => memory.remove(description));
  }

  getInflightFd(message: Message): Payload {
    const { numQueues, queueSize } = codec.decodeInflight(message);
    if (numQueues > this.queueCount) {
      throw new ProtocolError("GET_INFLIGHT_FD", `${numQueues} queues of ${this.queueCount}`);
    }
    const { description, fd } = asFrontEnds("GET_INFLIGHT_FD", () =>
      createInflightRegion(numQueues, queueSize, this.vrings.format.packed),
    );
    this.replyWith(fd);
    // As long as the request: QEMU pads it and counts on that.
    return codec.encodeInflight(description, message.payload.length);
  }

  async setInflightFd(message: Message): Promise<void> {
    const description = codec.decodeInflight(message);
    await this.vrings.whileStopped(() =>
      asFrontEnds("SET_INFLIGHT_FD", () => this.inflight.set(description, message.fds.pop()!)),
    );
  }

  private async change(request: string, change: (memory: SessionMemory) => void): Promise<void> {
    await this.vrings.whileStopped(() => asFrontEnds(request, () => change(this.memory)));
  }
}
