// What of an input device lasts until an event changes it: which keys are down, where switches, axes and fingers are.
import type { InputEvent } from "../linux/evdev.ts";
import { ABS_MT_SLOT, ABS_MT_TRACKING_ID, EV_ABS, EV_KEY, EV_SW } from "../linux/input-event-codes.ts";

const LASTING = [EV_KEY, EV_ABS, EV_SW];
/** A place is a finger's slot, a type of 5 bits and a code of 10. */
const SLOT_SHIFT = 15;
const SLOT_MAX = 255;
const NO_FINGER = -1;

export class InputState {
  /** That which events of fingers are of. */
  private slot = 0;
  private readonly values = new Map<number, number>();

  apply({ type, code, value }: InputEvent): void {
    if (!LASTING.includes(type)) return;
    if (type === EV_ABS && code === ABS_MT_SLOT) this.slot = value & SLOT_MAX;
    // A key that repeats is down.
    else this.values.set(this.placeOf(type, code), type === EV_KEY ? Math.min(value, 1) : value);
  }

  /** No key is down any more, and no finger there. */
  release(): void {
    for (const place of this.values.keys())
      if (typeAt(place) === EV_KEY || isFinger(place)) this.values.set(place, restOf(place));
  }

  /** It is as these say, and other switches are off. */
  become(state: readonly InputEvent[]): void {
    this.release();
    for (const place of this.values.keys()) if (typeAt(place) === EV_SW) this.values.set(place, 0);
    for (const event of state) this.apply(event);
  }

  /** The keys that this has heard of. */
  get keys(): number[] {
    return [...this.values.keys()].filter((place) => typeAt(place) === EV_KEY).map(codeAt);
  }

  /** What whoever believes `seen` must hear to believe this. */
  differencesFrom(seen: InputState): InputEvent[] {
    const events: InputEvent[] = [];
    let slot = seen.slot;
    const turnTo = (next: number) => {
      if (next !== slot) events.push({ type: EV_ABS, code: ABS_MT_SLOT, value: next });
      slot = next;
    };
    for (const [place, value] of this.values) {
      if ((seen.values.get(place) ?? restOf(place)) === value) continue;
      if (isFingers(typeAt(place), codeAt(place))) turnTo(place >> SLOT_SHIFT);
      events.push({ type: typeAt(place), code: codeAt(place), value });
    }
    turnTo(this.slot);
    return events;
  }

  private placeOf(type: number, code: number): number {
    return ((isFingers(type, code) ? this.slot : 0) << SLOT_SHIFT) | (type << 10) | code;
  }
}

/** Whether the event is of one finger of several. */
function isFingers(type: number, code: number): boolean {
  return type === EV_ABS && code > ABS_MT_SLOT;
}

/** Whether it says that there is a finger, and which. */
function isFinger(place: number): boolean {
  return typeAt(place) === EV_ABS && codeAt(place) === ABS_MT_TRACKING_ID;
}

function typeAt(place: number): number {
  return (place >> 10) & 0x1f;
}

function codeAt(place: number): number {
  return place & 0x3ff;
}

/** As a driver has it before it hears anything. */
function restOf(place: number): number {
  return isFinger(place) ? NO_FINGER : 0;
}
