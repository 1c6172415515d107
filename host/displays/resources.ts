// A guest's resources by their numbers, and how much memory of ours they may take.
import { GPU_MEM_ENTRY_SIZE } from "../../assembly/spec/virtio-gpu.ts";
import type { Backing } from "./backing.ts";
import type { Resource } from "./resource.ts";

/** What each takes beside its pixels, and each range of its backing: small ones are bounded so, too. */
const RESOURCE_BYTES = 1024;
const RANGE_BYTES = 4 * GPU_MEM_ENTRY_SIZE;

export class Resources {
  private readonly all = new Map<number, Resource>();
  private taken = 0;

  /** `most`: in bytes, of all together. */
  constructor(private readonly most: number) {}

  get count(): number {
    return this.all.size;
  }

  get byteLength(): number {
    return this.taken;
  }

  get(id: number): Resource | undefined {
    return this.all.get(id);
  }

  /** Whether there is so much room for one more. */
  hasRoom(pixelBytes: number): boolean {
    return this.taken + pixelBytes + RESOURCE_BYTES <= this.most;
  }

  add(id: number, resource: Resource): void {
    this.all.set(id, resource);
    this.taken += resource.byteLength + RESOURCE_BYTES;
  }

  /** It still has to be released. */
  remove(id: number): void {
    const resource = this.all.get(id)!;
    this.detach(resource);
    this.taken -= resource.byteLength + RESOURCE_BYTES;
    this.all.delete(id);
  }

  /** Whether there was room for it. */
  attach(resource: Resource, backing: Backing): boolean {
    const byteLength = backing.rangeCount * RANGE_BYTES;
    if (this.taken + byteLength > this.most) return false;
    resource.backing = backing;
    this.taken += byteLength;
    return true;
  }

  detach(resource: Resource): void {
    this.taken -= (resource.backing?.rangeCount ?? 0) * RANGE_BYTES;
    resource.backing = undefined;
  }

  clear(): void {
    for (const resource of this.all.values()) resource.forget();
    this.all.clear();
    this.taken = 0;
  }
}
