// An event device that a test plays: what it says, when it is unplugged, and what was written to it.
import type { OpenDevice } from "../../host/input/plugged-device.ts";
import type { InputDescription, InputEvent } from "../../host/linux/evdev.ts";
import { createEventfd, drainEventfd, signalEventfd } from "../../host/linux/eventfd.ts";
import { close } from "../../host/linux/libc.ts";

export class FakeEventDevice implements OpenDevice {
  readonly fd = createEventfd();
  readonly written: InputEvent[] = [];
  isGrabbed = false;
  isClosed = false;
  whyNoGrab: string | undefined;
  keys: number[] = [];
  others: InputEvent[] = [];
  private events: InputEvent[] = [];
  private isUnplugged = false;

  constructor(private readonly description: InputDescription) {}

  /** As the kernel has them: numbers of events. */
  say(...events: readonly (readonly [type: number, code: number, value: number])[]): void {
    this.events.push(...events.map(([type, code, value]) => ({ type, code, value })));
    signalEventfd(this.fd);
  }

  unplug(): void {
    this.isUnplugged = true;
    signalEventfd(this.fd);
  }

  /** Whether all that it has said was read. */
  get isDrained(): boolean {
    return this.events.length === 0;
  }

  describe(): InputDescription {
    return this.description;
  }

  state(): InputEvent[] {
    return [...this.keys.map((code) => ({ type: 1, code, value: 1 })), ...this.others];
  }

  keysDown(): number[] {
    return this.keys;
  }

  grab(): void {
    if (this.whyNoGrab) throw Object.assign(new Error(this.whyNoGrab), { code: this.whyNoGrab });
    this.isGrabbed = true;
  }

  read(): InputEvent[] {
    if (this.isUnplugged) throw Object.assign(new Error("ENODEV"), { code: "ENODEV" });
    drainEventfd(this.fd);
    return this.events.splice(0);
  }

  write(event: InputEvent): void {
    if (this.isUnplugged) throw Object.assign(new Error("ENODEV"), { code: "ENODEV" });
    this.written.push(event);
  }

  close(): void {
    this.isClosed = true;
    close(this.fd);
  }
}
