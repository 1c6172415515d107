// All that a terminal of so many columns and rows shows of `vringd top`.
import { styleText } from "node:util";
import { nothingFound } from "../control-sockets.ts";
import { formatRow } from "../rows.ts";
import { cut } from "../table.ts";
import { paint } from "../terminal.ts";
import { arrange, SORTS } from "./arrangement.ts";
import type { Controls } from "./controls.ts";
import { folded, legendLines, paintLine, view } from "./view.ts";
import type { Look } from "./watch.ts";

export interface Size {
  width: number;
  rows: number;
}

/** Title, state, and titles of columns. */
const HEAD_LINES = 3;

const KEYS: readonly (readonly [key: string, meaning: string])[] = [
  ["Up, Down", "choose a line; PgUp, PgDn, Home and End go further"],
  ["Enter", "show its device alone, or all again"],
  ["s, S", `sort by the next column, or by the one before: ${SORTS.map(({ title }) => title).join(", ")}`],
  ["r", "reverse the order"],
  ["/", "show devices with a text in their names; Enter takes it, Esc drops it"],
  ["p, Space", "pause, or go on"],
  ["Esc", "take back what was asked for last"],
  ["Ctrl-Z", "stop; fg comes back"],
  ["q", "end"],
];
const KEY_WIDTH = 10;

/** No more lines than rows, and none that is wider. */
export function frame(
  looks: readonly Look[],
  interval: number,
  controls: Controls,
  { width, rows }: Size,
): string[] {
  if (controls.isHelpShown) return helpLines(width, rows);
  const shown = arrange(looks, controls);
  const head = [paint("bold", titleOf(looks, interval, width)), paint("yellow", stateOf(controls, width))];
  if (shown.length === 0) {
    controls.take([], rows);
    const reason = looks.length === 0 ? nothingFound() : "no device has that text in its name: Esc shows all";
    return [...head, ...folded(reason, width)].slice(0, rows);
  }
  const { titles, lines } = view(shown, width);
  const fits = lines.length <= rows - HEAD_LINES;
  const room = rows - HEAD_LINES - Number(!fits);
  controls.take(lines, room);
  const { above, chosen } = controls;
  const seen = lines.slice(above, above + Math.max(1, room)).map((line, at) =>
    // Also where no colours are wanted: a choice that isn't seen is none.
    above + at === chosen
      ? styleText("inverse", line.text.padEnd(width), { validateStream: false })
      : paintLine(line),
  );
  const legend = legendLines(width);
  const hasRoom = fits && lines.length + 1 + legend.length <= room;
  const below = fits ? (hasRoom ? ["", ...legend] : []) : [whereOf(above, seen.length, lines.length, width)];
  return [...head, titles, ...seen, ...below].slice(0, rows);
}

/** Of the parts as many as there is room for. */
function titleOf(looks: readonly Look[], interval: number, width: number): string {
  const clock = new Date().toTimeString().slice(0, 8);
  const count = `${looks.length} ${looks.length === 1 ? "device" : "devices"}`;
  const parts = ["vringd top", clock, "? lists keys", `${count}, every ${interval} s`, "q ends"];
  let title = "";
  for (const part of parts) {
    const longer = title === "" ? part : `${title}  ${part}`;
    if (longer.length > width) break;
    title = longer;
  }
  return title;
}

/** What keys have changed. */
function stateOf({ sort, isReversed, filter, isTyping, isPaused, only }: Controls, width: number): string {
  const order = `sorted by ${SORTS[sort]!.title}${isReversed ? ", reversed" : ""}`;
  const parts = [
    ...(isPaused ? ["paused"] : []),
    ...(only === undefined ? [] : ["one device alone"]),
    ...(only === undefined && (sort !== 0 || isReversed) ? [order] : []),
    ...(isTyping || filter !== "" ? [`names with "${filter}${isTyping ? "_" : ""}"`] : []),
  ];
  return cut(parts.join("  "), width, "start");
}

function whereOf(above: number, seen: number, all: number, width: number): string {
  return paint("dim", cut(`lines ${above + 1} to ${above + seen} of ${all}`, width));
}

function helpLines(width: number, rows: number): string[] {
  const lines = KEYS.flatMap(([key, meaning]) => formatRow(key, meaning, KEY_WIDTH, width));
  return [paint("bold", cut("vringd top: keys. Any key goes back.", width)), "", ...lines].slice(0, rows);
}
