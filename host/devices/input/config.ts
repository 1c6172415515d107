// The input device's config space (virtio 1.4, 5.8.4): the driver writes what it asks for, and reads the answer.
import * as spec from "../../../assembly/spec/virtio-input.ts";
import type { InputDescription } from "../../linux/evdev.ts";
import type { ConfigSpace } from "../device.ts";

const NOTHING = new Uint8Array(0);

export class InputConfig implements ConfigSpace {
  readonly byteLength = spec.INPUT_CONFIG_SIZE;
  private select = 0;
  private subsel = 0;

  /** `asked`: a driver asks when it begins, and then no more. */
  constructor(
    private readonly description: InputDescription,
    private readonly asked: () => void,
  ) {}

  read(): Uint8Array {
    const answer = this.answer().subarray(0, spec.INPUT_CONFIG_ANSWER_SIZE);
    const space = Buffer.alloc(spec.INPUT_CONFIG_SIZE);
    space[spec.INPUT_CONFIG_SELECT] = this.select;
    space[spec.INPUT_CONFIG_SUBSEL] = this.subsel;
    space[spec.INPUT_CONFIG_LENGTH] = answer.length;
    space.set(answer, spec.INPUT_CONFIG_ANSWER);
    return space;
  }

  /** QEMU writes the whole space for any byte of it: of that, what a driver must not write (5.8.5.1) is passed over. */
  write(offset: number, bytes: Uint8Array): void {
    if (offset > spec.INPUT_CONFIG_SUBSEL) throw new RangeError("only select and subsel can be written");
    this.select = bytes[spec.INPUT_CONFIG_SELECT - offset] ?? this.select;
    this.subsel = bytes[spec.INPUT_CONFIG_SUBSEL - offset] ?? this.subsel;
    this.asked();
  }

  /** Nothing where there is nothing to tell (5.8.5.2). */
  private answer(): Uint8Array {
    const { name, serial, ids, properties, codes, axes } = this.description;
    if (this.select === spec.VIRTIO_INPUT_CFG_EV_BITS) return trimmed(codes.get(this.subsel) ?? NOTHING);
    if (this.select === spec.VIRTIO_INPUT_CFG_ABS_INFO) {
      const axis = axes.get(this.subsel);
      if (axis === undefined) return NOTHING;
      const { minimum, maximum, fuzz, flat, resolution } = axis;
      return new Uint8Array(Int32Array.of(minimum, maximum, fuzz, flat, resolution).buffer);
    }
    if (this.subsel !== 0) return NOTHING;
    if (this.select === spec.VIRTIO_INPUT_CFG_ID_NAME) return name;
    if (this.select === spec.VIRTIO_INPUT_CFG_ID_SERIAL) return serial;
    if (this.select === spec.VIRTIO_INPUT_CFG_PROP_BITS) return trimmed(properties);
    if (this.select !== spec.VIRTIO_INPUT_CFG_ID_DEVIDS) return NOTHING;
    return new Uint8Array(Uint16Array.of(ids.bustype, ids.vendor, ids.product, ids.version).buffer);
  }
}

/** Up to the last byte that is not zero. */
function trimmed(bitmap: Uint8Array): Uint8Array {
  return bitmap.subarray(0, bitmap.findLastIndex((byte) => byte !== 0) + 1);
}
