// What a driver has made of the device: its resources, and which of them each scanout shows, at the front-end's display or at none.
import * as spec from "../../../assembly/spec/virtio-gpu.ts";
import { Display } from "../../displays/display.ts";
import { isEmpty, type Rect } from "../../displays/rect.ts";
import { type Resource, seenIn } from "../../displays/resource.ts";
import { Resources } from "../../displays/resources.ts";
import { Screens } from "../../displays/screens.ts";
import type { Capset } from "../../renderer/renderer.ts";
import type { GpuValues } from "./options.ts";

interface Scanout {
  readonly resource: Resource;
  readonly area: Rect;
}

export class Scene {
  readonly resources: Resources;
  readonly screens: Screens;
  readonly display: Display;
  readonly keepsPixels: boolean;
  /** What the renderer can do, if there is one. */
  capsets: readonly Capset[] = [];
  private readonly scanouts = new Array<Scanout | undefined>(spec.VIRTIO_GPU_MAX_SCANOUTS);

  constructor({ gpuMode, maxMemory, resolution }: GpuValues, complain: (reason: string) => void) {
    this.keepsPixels = gpuMode !== "null";
    this.resources = new Resources(maxMemory);
    this.screens = new Screens(resolution.length > 0 ? resolution : [{ width: 1280, height: 800 }]);
    this.display = new Display(spec.VIRTIO_GPU_MAX_SCANOUTS, complain);
  }

  /** A front-end that shows pictures tells the driver itself how many there are. */
  get scanoutCount(): number {
    return this.display.isThere ? spec.VIRTIO_GPU_MAX_SCANOUTS : this.screens.count;
  }

  show(index: number, scanout: Scanout | undefined): void {
    this.scanouts[index] = scanout;
    this.display.outputs[index]!.show(
      scanout && this.keepsPixels ? scanout.resource.part(scanout.area) : undefined,
    );
    this.display.wake();
  }

  shows(resource: Resource): boolean {
    return this.scanouts.some((scanout) => scanout?.resource === resource);
  }

  flush(resource: Resource, rect: Rect): void {
    for (const [index, scanout] of this.scanouts.entries()) {
      if (scanout?.resource !== resource) continue;
      const seen = seenIn(scanout.area, rect);
      if (this.keepsPixels && !isEmpty(seen)) this.display.outputs[index]!.change(seen);
    }
    this.display.wake();
  }

  /** The resource goes. */
  forget(resource: Resource): void {
    for (const [index, scanout] of this.scanouts.entries())
      if (scanout?.resource === resource) this.show(index, undefined);
  }

  /** Nothing of a driver's counts any more. */
  reset(): void {
    for (const [index, { hasPointer }] of this.display.outputs.entries()) {
      this.show(index, undefined);
      if (hasPointer) this.display.outputs[index]!.point({ x: 0, y: 0 }, undefined);
    }
    this.resources.clear();
    this.screens.events = 0;
  }

  /** What follows the header in struct virtio_gpu_resp_display_info. */
  async displayInfo(): Promise<Uint8Array> {
    const told = await this.display.displayInfo();
    if (told) return told.subarray(spec.GPU_HEADER_SIZE);
    const body = Buffer.alloc(spec.GPU_DISPLAY_INFO_SIZE - spec.GPU_HEADER_SIZE);
    for (const [index, { x, y, width, height }] of this.screens.rects.entries())
      [x, y, width, height, 1].forEach((number, i) => {
        body.writeUInt32LE(number, index * spec.GPU_DISPLAY_ONE_SIZE + i * 4);
      });
    return body;
  }

  /** What follows the header in struct virtio_gpu_resp_edid. Undefined for a screen that there is not. */
  async edid(index: number): Promise<Uint8Array | undefined> {
    const told = await this.display.edid(index);
    if (told) return told.subarray(spec.GPU_HEADER_SIZE);
    const edid = this.screens.edid(index);
    if (edid === undefined) return undefined;
    const body = Buffer.alloc(spec.GPU_EDID_SIZE - spec.GPU_HEADER_SIZE);
    body.writeUInt32LE(edid.length);
    body.set(edid, 8);
    return body;
  }
}
