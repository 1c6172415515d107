// Lights and sounds of an input device, as a guest has turned them on. While nobody runs who would turn them off, they are off.
import { bitsOf, hasEvent, type InputDescription, type InputEvent } from "../linux/evdev.ts";
import { EV_LED, EV_SND, nameOf } from "../linux/input-event-codes.ts";

export class Lights {
  private readonly on = new Map<string, InputEvent>();
  private isRunning = false;

  /** `write`: to the device, if there is one. */
  constructor(
    private readonly description: InputDescription,
    private readonly write: (event: InputEvent) => void,
  ) {}

  /** Whether each light is on. */
  get byName(): Record<string, boolean> {
    const codes = bitsOf(this.description.codes.get(EV_LED) ?? new Uint8Array());
    return Object.fromEntries(
      codes.map((code) => [nameOf(EV_LED, code), this.on.has(placeOf(EV_LED, code))]),
    );
  }

  /** Whether the guest's driver runs. */
  run(isRunning: boolean): void {
    this.isRunning = isRunning;
    this.tellAll();
  }

  /** Other events than those of lights and sounds are nothing to it. */
  obey(event: InputEvent): void {
    const { type, code, value } = event;
    if ((type !== EV_LED && type !== EV_SND) || !hasEvent(this.description, event)) return;
    if (value === 0) this.on.delete(placeOf(type, code));
    else this.on.set(placeOf(type, code), event);
    this.write(event);
  }

  /** To a device that does not know them. */
  tellAll(): void {
    for (const event of this.on.values()) this.write(this.isRunning ? event : { ...event, value: 0 });
  }

  /** All are off. */
  reset(): void {
    for (const event of this.on.values()) this.write({ ...event, value: 0 });
    this.on.clear();
  }
}

function placeOf(type: number, code: number): string {
  return `${type} ${code}`;
}
