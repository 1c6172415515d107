// Devices that there are only for the guest: a keyboard, a mouse, a tablet.
import { type AxisRange, bitmapOf, type InputDescription } from "../linux/evdev.ts";
import * as codes from "../linux/input-event-codes.ts";

const BUS_VIRTUAL = 6;
const POINTER = 0;
const TABLET_AXIS: AxisRange = { minimum: 0, maximum: 32767, fuzz: 0, flat: 0, resolution: 0 };

const all = (type: number) => [...new Set(codes.codesOf(type).values())];
const buttons = all(codes.EV_KEY).filter((code) => code >= codes.BTN_LEFT && code <= codes.BTN_TASK);
const wheels = [codes.REL_HWHEEL, codes.REL_WHEEL];

const PRESETS = {
  keyboard: [
    [codes.EV_KEY, all(codes.EV_KEY).filter((code) => code > 0 && code < codes.BTN_MISC)],
    [codes.EV_LED, [codes.LED_NUML, codes.LED_CAPSL, codes.LED_SCROLLL]],
    [codes.EV_REP, all(codes.EV_REP)],
  ],
  mouse: [
    [codes.EV_KEY, buttons],
    [codes.EV_REL, [codes.REL_X, codes.REL_Y, ...wheels]],
  ],
  tablet: [
    [codes.EV_KEY, buttons],
    [codes.EV_REL, wheels],
    [codes.EV_ABS, [codes.ABS_X, codes.ABS_Y]],
  ],
} satisfies Record<string, [type: number, codes: number[]][]>;

type Kind = keyof typeof PRESETS;

/** The one that is asked for. */
export function preset(wanted: Readonly<Record<Kind, boolean>>): InputDescription {
  const kinds = Object.keys(PRESETS) as Kind[];
  const kind = kinds.find((each) => wanted[each])!;
  const lists: [number, number[]][] = PRESETS[kind];
  const axes = kind === "tablet" ? [codes.ABS_X, codes.ABS_Y] : [];
  return {
    name: Buffer.from(`vringd ${kind}`),
    serial: Buffer.alloc(0),
    ids: { bustype: BUS_VIRTUAL, vendor: 0, product: kinds.indexOf(kind) + 1, version: 1 },
    properties: bitmapOf(kind === "keyboard" ? [] : [POINTER]),
    codes: new Map(lists.map(([type, list]) => [type, bitmapOf(list)])),
    axes: new Map(axes.map((code) => [code, TABLET_AXIS])),
  };
}

/** The same device under other names. */
export function withNames(
  description: InputDescription,
  { name, serial }: { readonly name: string | undefined; readonly serial: string | undefined },
): InputDescription {
  return {
    ...description,
    ...(name !== undefined && { name: Buffer.from(name) }),
    ...(serial !== undefined && { serial: Buffer.from(serial) }),
  };
}
