// Guest memory as a device may ask for it: by guest address, in place.
import {
  ENTRY_GPA,
  ENTRY_LENGTH,
  ENTRY_TARGET,
  REGIONS_MAX,
  TABLE_ENTRY_SIZE,
} from "../../assembly/abi/guest-memory.ts";
import { REGION_TABLE_PTR } from "../../assembly/abi/memory.ts";
import type { DeviceMemory, MemoryFile } from "../devices/device.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { MemoryViews } from "../memory/memory-views.ts";

export class GuestViews implements DeviceMemory {
  private readonly views: MemoryViews;

  constructor(private readonly memory: Pick<GuestMemory, "linear" | "listeners" | "regions">) {
    const { view, hostAddress } = memory.linear;
    this.views = new MemoryViews(view, hostAddress);
    memory.listeners.add(() => this.views.forget());
  }

  buffers(gpa: bigint, byteLength: number): Uint8Array[] {
    const buffers: Uint8Array[] = [];
    for (let at = gpa, rest = byteLength; rest > 0; ) {
      const span = this.spanFrom(at, rest);
      this.views.append(buffers, span.hostAddress, span.byteLength);
      at += BigInt(span.byteLength);
      rest -= span.byteLength;
    }
    return buffers;
  }

  files(): readonly MemoryFile[] {
    return this.memory.regions.map(({ gpa, byteLength, fd, mmapOffset, granularity }) => ({
      gpa,
      byteLength,
      fd,
      offset: mmapOffset,
      granularity,
    }));
  }

  onChange(changed: () => void): void {
    this.memory.listeners.add(changed);
  }

  private spanFrom(gpa: bigint, most: number): { hostAddress: number; byteLength: number } {
    const { view } = this.memory.linear;
    for (let i = 0; i < REGIONS_MAX; i++) {
      const entry = REGION_TABLE_PTR + i * TABLE_ENTRY_SIZE;
      const byteLength = view.getBigUint64(entry + ENTRY_LENGTH, true);
      if (byteLength === 0n) break;
      const offset = gpa - view.getBigUint64(entry + ENTRY_GPA, true);
      if (offset < 0n || offset >= byteLength) continue;
      const hostAddress = Number(view.getBigUint64(entry + ENTRY_TARGET, true) + offset);
      return { hostAddress, byteLength: Math.min(most, Number(byteLength - offset)) };
    }
    throw new RangeError(`the guest has no memory at 0x${gpa.toString(16)}`);
  }
}
