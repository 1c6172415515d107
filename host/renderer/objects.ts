// What a driver has made in the renderer: contexts and resources, the guest memory behind these, and whose pixels are to be seen.
import type { Rect } from "../displays/rect.ts";
import type { Ranges, Virgl } from "../linux/virglrenderer.ts";
import type { GuestMap } from "./guest-map.ts";
import type { PixelTarget } from "./shared-pixels.ts";

interface Resource {
  /** Of struct virtio_gpu_mem_entry: looked up anew whenever guest memory has changed. */
  entries: Uint8Array | undefined;
  /** What the library points to. */
  ranges: Ranges | undefined;
  target: PixelTarget | undefined;
}

export class Objects {
  private readonly contexts = new Set<number>();
  private readonly resources = new Map<number, Resource>();

  constructor(
    private readonly virgl: Virgl,
    private readonly guest: GuestMap,
  ) {}

  createContext(context: number, name: string): void {
    this.virgl.createContext(context, name);
    this.contexts.add(context);
  }

  destroyContext(context: number): void {
    this.virgl.destroyContext(context);
    this.contexts.delete(context);
  }

  createResource(args: readonly number[]): void {
    this.virgl.createResource(args);
    this.resources.set(args[0]!, { entries: undefined, ranges: undefined, target: undefined });
  }

  unrefResource(id: number): void {
    this.detach(id);
    this.virgl.unrefResource(id);
    this.resources.get(id)!.target?.release();
    this.resources.delete(id);
  }

  /** Throws RangeError where the guest has no memory. */
  attach(id: number, entries: Uint8Array): void {
    const resource = this.resources.get(id)!;
    resource.entries = Buffer.from(entries);
    this.point(id, resource);
  }

  detach(id: number): void {
    const resource = this.resources.get(id)!;
    this.unpoint(id, resource);
    resource.entries = undefined;
  }

  /** Nothing points to guest memory while it changes; what has none after that stays without. */
  withoutMemory(change: () => void): void {
    for (const [id, resource] of this.resources) this.unpoint(id, resource);
    change();
    for (const [id, resource] of this.resources) {
      try {
        if (resource.entries) this.point(id, resource);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
      }
    }
  }

  /** Takes the target. */
  show(id: number, target: PixelTarget): void {
    const resource = this.resources.get(id)!;
    resource.target?.release();
    resource.target = target;
  }

  readPixels(id: number, { x, y, width, height }: Rect): void {
    const target = this.resources.get(id)!.target!;
    const stride = target.width * 4;
    const layout = { level: 0, stride, layerStride: 0, offset: BigInt(y * stride + x * 4) };
    this.virgl.read(id, 0, [x, y, 0, width, height, 1], layout, target.ranges);
  }

  clear(): void {
    for (const context of this.contexts) this.destroyContext(context);
    for (const id of this.resources.keys()) this.unrefResource(id);
  }

  private point(id: number, resource: Resource): void {
    const ranges = this.guest.ranges(resource.entries!);
    if (ranges.count === 0) return;
    this.virgl.attachMemory(id, ranges);
    resource.ranges = ranges;
  }

  private unpoint(id: number, resource: Resource): void {
    if (resource.ranges) this.virgl.detachMemory(id);
    resource.ranges = undefined;
  }
}
