// Shared memory as tables: the ring's parts and the inflight region, field by field, with what changed last.
import { packedEntryTokens } from "../inflight-view.ts";
import { flagNames, formatValue, hex } from "../stores.ts";
import type { App } from "./app.ts";
import { chip, element } from "./elements.ts";
import { usedOwner } from "./ring-figure.ts";

type Cell = HTMLElement;

export function ringTables(app: App): HTMLElement[] {
  return app.machine.config.isPacked
    ? [descriptors(app, "Descriptor ring", ["addr", "len", "id", "flags"]), ...indirectTables(app)]
    : [
        descriptors(app, "Descriptor table", ["addr", "len", "flags", "next"]),
        availRing(app),
        usedRing(app),
        ...indirectTables(app),
      ];
}

/** Indices and event fields, beside the figure, and what its marks mean. */
export function indices(app: App): HTMLElement[] {
  const { isPacked, hasEventIdx } = app.machine.config;
  if (isPacked)
    return [scalars(app, "Event suppression", PACKED_EVENTS), positions(app), legend(PACKED_LEGEND)];
  return [
    scalars(app, "Avail ring", ["avail.idx", hasEventIdx ? "avail.used_event" : "avail.flags"]),
    scalars(app, "Used ring", ["used.idx", hasEventIdx ? "used.avail_event" : "used.flags"]),
    legend(SPLIT_LEGEND),
  ];
}

type Legend = [mark: string, text: string][];

const SPLIT_LEGEND: Legend = [
  ["◎", "avail ring outside, used ring inside"],
  ["D", "the driver adds here next"],
  ["▸", "the core takes from here next"],
  ["C", "the core gives back here next"],
];
const PACKED_LEGEND: Legend = [
  ["D", "the driver adds here next"],
  ["C", "the core gives back here next"],
  ["A U", "the bits AVAIL and USED"],
];

function legend(marks: Legend): HTMLElement {
  const items = marks.map(([mark, text]) =>
    element("div", {}, element("dt", {}, mark), element("dd", {}, text)),
  );
  return element("dl", { class: "legend" }, ...items);
}

export function inflightTables(app: App): HTMLElement[] {
  return app.machine.config.isPacked
    ? [scalars(app, "Region", PACKED_REGION), packedEntries(app)]
    : [scalars(app, "Region", SPLIT_REGION), splitEntries(app)];
}

const SPLIT_REGION = ["inflight.used_idx", "inflight.last_batch_head"];
const PACKED_EVENTS = ["driver.off_wrap", "driver.flags", "device.off_wrap", "device.flags"];
const PACKED_REGION = [
  "inflight.free_head",
  "inflight.old_free_head",
  "inflight.used_idx",
  "inflight.old_used_idx",
  "inflight.used_wrap",
  "inflight.old_used_wrap",
];

/** `parts`: the fields of a descriptor in its format, as the page has them. */
function descriptors(app: App, title: string, parts: readonly string[]): HTMLElement {
  const { ring } = app.machine.guest;
  const rows = range(app).map((i) => {
    const isFree = ring.isFree(i);
    return row(isFree, [
      rowHead(String(i)),
      plain(chip(ring.ownerOfDescriptor(i), isFree)),
      ...parts.map((part) => cell(app, `desc[${i}].${part}`)),
    ]);
  });
  return table(title, ["", "of", ...parts], rows);
}

function indirectTables(app: App): HTMLElement[] {
  const { guest } = app.machine;
  return guest.pending
    .filter(({ isIndirect }) => isIndirect)
    .map((request) => {
      const rows = guest.tableOf(request).map(({ gpa, byteLength, flags }, i) => {
        const values = [hex(gpa), String(byteLength), flagNames(flags).replaceAll("|", " ")];
        return row(false, [rowHead(String(i)), ...values.map((text) => element("td", {}, text))]);
      });
      return table(`Indirect table of #${request.serial}`, ["", "addr", "len", "flags"], rows);
    });
}

function availRing(app: App): HTMLElement {
  const { ring } = app.machine.guest;
  const live = (app.value(app.field("avail.idx")) - ring.position.used) & 0xffff;
  const rows = range(app).map((i) => {
    const { size } = app.machine.config;
    const distance = (app.value(app.field("avail.idx")) - 1 - i + size * 0x10000) % size;
    return row(distance >= live, [
      rowHead(String(i)),
      plain(chip(ring.ownerOfAvail(i), distance >= live)),
      cell(app, `avail.ring[${i}]`),
    ]);
  });
  return table("Avail ring", ["", "of", "head"], rows);
}

function usedRing(app: App): HTMLElement {
  const { size } = app.machine.config;
  const usedIdx = app.value(app.field("used.idx"));
  const live = (usedIdx - app.machine.guest.ring.position.used) & 0xffff;
  const rows = range(app).map((i) => {
    const distance = (usedIdx - 1 - i + size * 0x10000) % size;
    return row(distance >= live, [
      rowHead(String(i)),
      plain(chip(usedOwner(app, i), distance >= live)),
      cell(app, `used.ring[${i}].id`),
      cell(app, `used.ring[${i}].len`),
    ]);
  });
  return table("Used ring", ["", "of", "id", "len"], rows);
}

function splitEntries(app: App): HTMLElement {
  const rows = range(app).map((i) => {
    const isInFlight = app.value(app.field(`entry[${i}].inflight`)) !== 0;
    const owner = isInFlight ? app.machine.guest.ring.ownerOfToken(i) : undefined;
    return row(!isInFlight, [
      rowHead(String(i)),
      plain(chip(owner)),
      ...["inflight", "next", "counter"].map((part) => cell(app, `entry[${i}].${part}`)),
    ]);
  });
  return table("Entries, one a head", ["", "of", "inflight", "next", "counter"], rows);
}

function packedEntries(app: App): HTMLElement {
  const tokens = packedEntryTokens(app.machine.view, app.machine.config.size);
  const parts = ["inflight", "next", "last", "num", "counter", "id", "flags", "len", "addr"];
  const rows = range(app).map((i) => {
    const token = tokens[i];
    const owner = token === undefined ? undefined : app.machine.guest.ring.ownerOfToken(token);
    return row(token === undefined, [
      rowHead(String(i)),
      plain(chip(owner)),
      ...parts.map((part) => cell(app, `entry[${i}].${part}`)),
    ]);
  });
  return table("Entries, one a descriptor", ["", "of", ...parts], rows);
}

/** What no byte of the ring says: where the driver stands. The core's used position is the region's. */
function positions(app: App): HTMLElement {
  const { avail, used, availWrap, usedWrap } = app.machine.guest.ring.position;
  const of = (name: string, slot: number, wrap: number | undefined) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, `${slot} wrap ${wrap}`));
  return element(
    "div",
    { class: "scalars" },
    element("h3", {}, "The driver's own"),
    element("dl", {}, of("next avail", avail, availWrap), of("next used", used, usedWrap)),
  );
}

function scalars(app: App, title: string, names: string[]): HTMLElement {
  const items = names.map((name) => {
    const short = name.slice(name.indexOf(".") + 1);
    const label = title === "Event suppression" ? name : short;
    const value = element("dd", {}, ...valueParts(app, name));
    mark(app, value, name);
    return element("div", {}, element("dt", {}, label), value);
  });
  return element("div", { class: "scalars" }, element("h3", {}, title), element("dl", {}, ...items));
}

function table(title: string, heads: string[], rows: HTMLElement[]): HTMLElement {
  const head = element(
    "tr",
    {},
    ...heads.map((text) =>
      element(text === "" ? "td" : "th", { attributes: { scope: text === "" ? undefined : "col" } }, text),
    ),
  );
  const made = element(
    "table",
    {},
    element("caption", {}, title),
    element("thead", {}, head),
    element("tbody", {}, ...rows),
  );
  return element("div", { class: "scroller" }, made);
}

function row(isFaint: boolean, cells: Cell[]): HTMLElement {
  return element("tr", isFaint ? { class: "faint" } : {}, ...cells);
}

function rowHead(text: string): Cell {
  return element("th", { attributes: { scope: "row" } }, text);
}

function plain(content: Node): Cell {
  return element("td", {}, content);
}

function cell(app: App, name: string): Cell {
  const made = element("td", {}, ...valueParts(app, name));
  mark(app, made, name);
  return made;
}

function valueParts(app: App, name: string): (Node | string)[] {
  const field = app.field(name);
  const was = app.changed.get(name);
  const text = formatField(app, name);
  if (was === undefined) return [text];
  return [text, element("span", { class: "unseen" }, ` (changed, was ${formatValue(field, was)})`)];
}

function mark(app: App, holder: HTMLElement, name: string): void {
  holder.dataset.field = name;
  const was = app.changed.get(name);
  if (was === undefined) return;
  holder.classList.add("changed");
  holder.title = `was ${formatValue(app.field(name), was)}`;
}

function formatField(app: App, name: string): string {
  const field = app.field(name);
  const value = app.value(field);
  if (field.kind.endsWith(".addr")) return value === 0 ? "0" : hex(value);
  if (field.kind === "desc.flags" || field.kind === "entry.flags")
    return flagNames(value).replaceAll("|", " ");
  return formatValue(field, value);
}

function range(app: App): number[] {
  return Array.from({ length: app.machine.config.size }, (_, i) => i);
}
