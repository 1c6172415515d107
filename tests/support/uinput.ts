// Input devices that the kernel makes for whoever plays them (<linux/uinput.h>).
import { closeSync, constants, existsSync, openSync, readdirSync, readSync, writeSync } from "node:fs";
import {
  bitsOf,
  decodeEvents,
  INPUT_EVENT_SIZE,
  type InputDescription,
  type InputEvent,
} from "../../host/linux/evdev.ts";
import { EV_ABS, EV_KEY, EV_LED, EV_MSC, EV_REL, EV_SND, EV_SW } from "../../host/linux/input-event-codes.ts";
import * as libc from "../../host/linux/libc.ts";

/** _IOW('U', number, byteLength). */
const writes = (number: number, byteLength: number) => 0x40000000 + (byteLength << 16) + (0x55 << 8) + number;
const UI_DEV_CREATE = 0x5501;
const UI_DEV_DESTROY = 0x5502;
const UI_DEV_SETUP = writes(3, 92);
const UI_ABS_SETUP = writes(4, 28);
const UI_SET_EVBIT = writes(100, 4);
const UI_SET_PROPBIT = writes(110, 4);
/** _IOC(_IOC_READ, 'U', 44, 64). */
const UI_GET_SYSNAME = 0x80000000 + (64 << 16) + (0x55 << 8) + 44;

/** What sets a code of each type. */
const SET_CODE = new Map([
  [EV_KEY, writes(101, 4)],
  [EV_REL, writes(102, 4)],
  [EV_ABS, writes(103, 4)],
  [EV_MSC, writes(104, 4)],
  [EV_LED, writes(105, 4)],
  [EV_SND, writes(106, 4)],
  [EV_SW, writes(109, 4)],
]);

const NAME_BYTES = 80;

export class UinputDevice {
  private constructor(
    private readonly fd: number,
    /** Such as /dev/input/event3. */
    readonly path: string,
  ) {}

  static make(description: InputDescription): UinputDevice {
    const fd = openSync("/dev/uinput", constants.O_RDWR | constants.O_NONBLOCK);
    const set = (request: number, argument: number | Buffer) =>
      libc.checked(
        "ioctl",
        typeof argument === "number"
          ? libc.ioctlAt(fd, request, argument)
          : libc.ioctl(fd, request, argument),
      );
    for (const [type, bitmap] of description.codes) {
      set(UI_SET_EVBIT, type);
      const request = SET_CODE.get(type);
      // Codes of repeated keys are the kernel's to know.
      for (const code of request === undefined ? [] : bitsOf(bitmap)) set(request!, code);
    }
    for (const property of bitsOf(description.properties)) set(UI_SET_PROPBIT, property);
    for (const [code, axis] of description.axes) {
      // code u16, 2 bytes of nothing, struct input_absinfo, whose value comes first.
      const bytes = Buffer.alloc(28);
      bytes.writeUInt16LE(code, 0);
      for (const [i, value] of [axis.minimum, axis.maximum, axis.fuzz, axis.flat, axis.resolution].entries())
        bytes.writeInt32LE(value, 8 + i * 4);
      set(UI_ABS_SETUP, bytes);
    }
    const { bustype, vendor, product, version } = description.ids;
    const setup = Buffer.alloc(92);
    for (const [i, id] of [bustype, vendor, product, version].entries()) setup.writeUInt16LE(id, i * 2);
    setup.set(description.name.subarray(0, NAME_BYTES - 1), 8);
    set(UI_DEV_SETUP, setup);
    set(UI_DEV_CREATE, 0);
    const name = Buffer.alloc(64);
    set(UI_GET_SYSNAME, name);
    const directory = `/sys/class/input/${name.toString("latin1", 0, name.indexOf(0))}`;
    const event = readdirSync(directory).find((entry) => entry.startsWith("event"))!;
    return new UinputDevice(fd, `/dev/input/${event}`);
  }

  get isThere(): boolean {
    return existsSync(this.path);
  }

  /** All of them by one write. */
  emit(events: readonly (readonly number[])[]): void {
    const bytes = Buffer.alloc(events.length * INPUT_EVENT_SIZE);
    for (const [i, [type, code, value]] of events.entries()) {
      const at = (i + 1) * INPUT_EVENT_SIZE - 8;
      bytes.writeUInt16LE(type!, at);
      bytes.writeUInt16LE(code!, at + 2);
      bytes.writeInt32LE(value!, at + 4);
    }
    writeSync(this.fd, bytes);
  }

  /** What the device was told, such as to turn a light on. */
  told(): InputEvent[] {
    const bytes = Buffer.alloc(64 * INPUT_EVENT_SIZE);
    try {
      return decodeEvents(bytes.subarray(0, readSync(this.fd, bytes)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return [];
      throw error;
    }
  }

  unplug(): void {
    libc.ioctlAt(this.fd, UI_DEV_DESTROY, 0);
    closeSync(this.fd);
  }
}
