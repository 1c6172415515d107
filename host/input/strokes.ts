// Groups of events for what a person does: keys pressed and released, a pointer moved. None has its SYN_REPORT.
import type { AxisRange, InputEvent } from "../linux/evdev.ts";
import { ABS_X, codesOf, EV_ABS, EV_KEY, EV_REL, REL_X } from "../linux/input-event-codes.ts";
import { keysFor } from "./keymap.ts";

type Group = readonly InputEvent[];

const STEPS_MAX = 32767;

/** Each character of the text. Throws RangeError. */
export function typing(text: string): Group[] {
  return [...text].flatMap((character) => {
    const keys = keysFor(character);
    if (keys === undefined)
      throw new RangeError(`no key of a keyboard of the USA is for ${JSON.stringify(character)}`);
    return stroke(keys.map(keyNamed));
  });
}

/** Keys pressed one after the other and released in turn, by names such as "leftctrl+c". Throws RangeError. */
export function chord(names: string): Group[] {
  return stroke(names.split("+").map(keyNamed));
}

/** By steps; or to a place, on a device whose axes have a range. Throws RangeError. */
export function moving(args: readonly string[], axes: ReadonlyMap<number, AxisRange>): Group[] {
  const numbers = args.map((text) => (/^[-+]?\d{1,5}$/.test(text) ? Number(text) : Number.NaN));
  const [x, y] = numbers;
  if (numbers.length !== 2 || x === undefined || y === undefined || Number.isNaN(x + y))
    throw new RangeError("move takes two whole numbers, X and Y");
  const isAbsolute = axes.has(ABS_X);
  const events = numbers.map((value, i) => {
    const code = (isAbsolute ? ABS_X : REL_X) + i;
    const { minimum, maximum } = axes.get(ABS_X + i) ?? { minimum: -STEPS_MAX, maximum: STEPS_MAX };
    if (value < minimum || value > maximum)
      throw new RangeError(`${"XY"[i]} is from ${minimum} to ${maximum}, not ${value}`);
    return { type: isAbsolute ? EV_ABS : EV_REL, code, value };
  });
  return [events];
}

function stroke(codes: readonly number[]): Group[] {
  const press = codes.map((code) => ({ type: EV_KEY, code, value: 1 }));
  return [press, press.map((event) => ({ ...event, value: 0 })).reverse()];
}

/** By the kernel's name, whole or without what all of them begin with. */
function keyNamed(name: string): number {
  const upper = name.toUpperCase();
  const known = [upper, `KEY_${upper}`, `BTN_${upper}`].map((each) => codesOf(EV_KEY).get(each));
  const code = known.find((each) => each !== undefined);
  if (code === undefined) throw new RangeError(`there is no key ${JSON.stringify(name)}`);
  return code;
}
