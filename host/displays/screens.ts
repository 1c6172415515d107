// What the guest is told of its screens where no front-end shows them: how large each is.
import { VIRTIO_GPU_EVENT_DISPLAY } from "../../assembly/spec/virtio-gpu.ts";
import { edidOf } from "./edid.ts";
import { formatSize, type Size, screenSize } from "./size.ts";

export class Screens {
  private readonly sizes: Size[];
  /** VIRTIO_GPU_EVENT_*, of which the driver has not said that it knows. */
  events = 0;

  constructor(sizes: readonly Size[]) {
    this.sizes = [...sizes];
  }

  get count(): number {
    return this.sizes.length;
  }

  /** Left to right. */
  get rects(): { x: number; y: number; width: number; height: number }[] {
    let right = 0;
    return this.sizes.map((size) => {
      const x = right;
      right += size.width;
      return { x, y: 0, ...size };
    });
  }

  /** Undefined where there is no such screen. */
  edid(index: number): Buffer | undefined {
    const size = this.sizes[index];
    return size && edidOf(size);
  }

  /** As a user says it. Throws RangeError. */
  resize([number = "", text = "", ...more]: readonly string[]): void {
    const size = screenSize.read(text);
    if (!/^\d{1,2}$/.test(number) || size === undefined || more.length > 0)
      throw new RangeError(`resolution takes the number of a screen and its size: ${screenSize.takes}`);
    if (Number(number) >= this.count) throw new RangeError(`there is no screen ${number}: ${this.shown}`);
    this.sizes[Number(number)] = size;
    this.events |= VIRTIO_GPU_EVENT_DISPLAY;
  }

  private get shown(): string {
    return `there is ${this.sizes.map((size, index) => `${index} of ${formatSize(size)}`).join(", ")}`;
  }
}
