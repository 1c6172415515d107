// The ring as a ring: slots around a circle, whose they are, and where each side stands.
import { leftoversOf } from "../inflight-view.ts";
import type { App } from "./app.ts";
import { HUES, svg, svgText } from "./elements.ts";

const CENTRE = 130;

interface Band {
  inner: number;
  outer: number;
}

const AVAIL: Band = { inner: 80, outer: 104 };
const USED: Band = { inner: 50, outer: 74 };
const PACKED: Band = { inner: 58, outer: 104 };

interface Slot {
  serial: number | undefined;
  /** Owned by the other side or in use: drawn in full colour. */
  isLive: boolean;
  isChanged: boolean;
  note?: string;
}

export function ringFigure(app: App): SVGElement {
  const { config } = app.machine;
  const figure = svg("svg", { viewBox: "0 0 260 260", role: "img", "aria-label": describe(app) });
  figure.classList.add("ring-figure");
  figure.append(...(config.isPacked ? packedParts(app) : splitParts(app)));
  return figure;
}

function splitParts(app: App): SVGElement[] {
  const { machine } = app;
  const { size } = machine.config;
  const { ring } = machine.guest;
  const availIdx = app.value(app.field("avail.idx"));
  const usedIdx = app.value(app.field("used.idx"));
  // Amid a batch, too: the region counts all as in flight that it has not committed.
  const committed = app.value(app.field("inflight.used_idx"));
  const taken = (committed + leftoversOf(machine.view, machine.config).length) & 0xffff;
  const avail = Array.from({ length: size }, (_, slot): Slot => {
    const isLive = (availIdx - 1 - slot + size * 0x10000) % size < ((availIdx - ring.position.used) & 0xffff);
    return { serial: ring.ownerOfAvail(slot), isLive, isChanged: app.changed.has(`avail.ring[${slot}]`) };
  });
  const used = Array.from({ length: size }, (_, slot): Slot => {
    const serial = usedOwner(app, slot);
    const isLive = (usedIdx - 1 - slot + size * 0x10000) % size < ((usedIdx - ring.position.used) & 0xffff);
    const isChanged = ["id", "len"].some((part) => app.changed.has(`used.ring[${slot}].${part}`));
    return { serial, isLive, isChanged };
  });
  return [
    ...drawSlots(avail, AVAIL),
    ...drawSlots(used, USED),
    pointer(availIdx % size, size, AVAIL.outer + 3, "out", "driver"),
    pointer(taken % size, size, AVAIL.inner - 1, "in", "core", true),
    pointer(usedIdx % size, size, USED.inner - 3, "in", "used"),
    ...centre("split", ""),
  ];
}

/** Of the elements that are published: whose they are. */
export function usedOwner(app: App, slot: number): number | undefined {
  const { machine } = app;
  const usedIdx = app.value(app.field("used.idx"));
  const distance = (usedIdx - 1 - slot + machine.config.size * 0x10000) % machine.config.size;
  if (distance >= usedIdx) return undefined;
  const token = app.value(app.field(`used.ring[${slot}].id`));
  const pending = distance < ((usedIdx - machine.guest.ring.position.used) & 0xffff);
  return pending ? machine.guest.ring.ownerOfToken(token) : machine.guest.lastUsed(slot);
}

function packedParts(app: App): SVGElement[] {
  const { machine } = app;
  const { size } = machine.config;
  const { ring } = machine.guest;
  const slots = Array.from({ length: size }, (_, slot): Slot => {
    const flags = app.value(app.field(`desc[${slot}].flags`));
    const bits = `${(flags & 0x80) !== 0 ? "A" : "·"}${(flags & 0x8000) !== 0 ? "U" : "·"}`;
    const isChanged = ["addr", "len", "id", "flags"].some((part) => app.changed.has(`desc[${slot}].${part}`));
    return { serial: ring.ownerOfDescriptor(slot), isLive: !ring.isFree(slot), isChanged, note: bits };
  });
  const oldUsed = app.value(app.field("inflight.old_used_idx"));
  return [
    ...drawSlots(slots, PACKED),
    pointer(ring.position.avail, size, PACKED.outer + 3, "out", "driver"),
    pointer(oldUsed % size, size, PACKED.inner - 3, "in", "used"),
    ...centre("wrap", `D ${ring.position.availWrap} · C ${app.value(app.field("inflight.old_used_wrap"))}`),
  ];
}

function drawSlots(slots: Slot[], band: Band): SVGElement[] {
  return slots.flatMap(({ serial, isLive, isChanged, note }, i) => {
    const arc = svg("path", { d: arcPath(i, slots.length, band) });
    arc.setAttribute(
      "class",
      `slot ${serial === undefined ? "" : `hue${serial % HUES}`} ${isLive ? "live" : ""}`,
    );
    const parts: SVGElement[] = [arc];
    if (isChanged) {
      const outline = svg("path", { d: arcPath(i, slots.length, band) });
      outline.setAttribute("class", "slot-changed");
      parts.push(outline);
    }
    const middle = (i + 0.5) / slots.length;
    const radius = note === undefined ? (band.inner + band.outer) / 2 : band.outer - 13;
    const label = serial === undefined ? String(i) : `#${serial}`;
    parts.push(
      textAt(label, middle, radius, `slot-label${isLive ? "" : " faint"}${slots.length > 8 ? " small" : ""}`),
    );
    if (note !== undefined)
      parts.push(textAt(note, middle, band.inner + 12, `slot-bits${slots.length > 8 ? " small" : ""}`));
    return parts;
  });
}

function textAt(text: string, turn: number, radius: number, className: string): SVGElement {
  const [x, y] = pointAt(turn, radius);
  return svgText(text, { x, y, class: className });
}

/** A triangle at the boundary where slot `slot` begins its turn. */
function pointer(
  slot: number,
  size: number,
  radius: number,
  side: "in" | "out",
  name: string,
  isThin = false,
): SVGElement {
  const turn = (slot + 0.5) / size;
  const length = isThin ? 6 : 10;
  const far = side === "out" ? radius + length : radius - length;
  const half = 5 / (2 * Math.PI * far);
  const points = [pointAt(turn, radius), pointAt(turn - half, far), pointAt(turn + half, far)];
  const group = svg("g", { class: `pointer ${name}` });
  group.append(svg("polygon", { points: points.map((point) => point.join(",")).join(" ") }));
  if (!isThin) {
    const [x, y] = pointAt(turn, side === "out" ? far + 8 : far - 9);
    group.append(svgText(name === "driver" ? "D" : "C", { x, y, class: "pointer-label" }));
  }
  return group;
}

function centre(first: string, second: string): SVGElement[] {
  return [
    svgText(first, { x: CENTRE, y: CENTRE - 5, class: "centre" }),
    svgText(second, { x: CENTRE, y: CENTRE + 11, class: "centre faint" }),
  ];
}

/** A turn of 0 is at the top; they go clockwise. */
function pointAt(turn: number, radius: number): [number, number] {
  const angle = turn * 2 * Math.PI - Math.PI / 2;
  const round = (value: number) => Math.round(value * 100) / 100;
  return [round(CENTRE + radius * Math.cos(angle)), round(CENTRE + radius * Math.sin(angle))];
}

function arcPath(i: number, count: number, { inner, outer }: Band): string {
  const gap = 0.003;
  const [from, to] = [i / count + gap, (i + 1) / count - gap];
  const [a, b] = [pointAt(from, outer), pointAt(to, outer)];
  const [c, d] = [pointAt(to, inner), pointAt(from, inner)];
  return `M${a} A${outer},${outer} 0 0 1 ${b} L${c} A${inner},${inner} 0 0 0 ${d} Z`;
}

function describe(app: App): string {
  const { machine } = app;
  const { avail, used } = machine.guest.ring.position;
  const pending = machine.guest.pending.map(({ serial }) => `#${serial}`).join(", ") || "none";
  return `The ring, ${machine.config.size} slots. The driver writes next at ${avail} and takes back next at ${used}. Requests not yet back: ${pending}.`;
}
