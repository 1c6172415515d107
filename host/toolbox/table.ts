// Aligned columns that fit a width.
import { characterWidth, printable, textWidth } from "./terminal.ts";

export interface Column {
  title: string;
  /** Not cut any further. */
  least: number;
  /** The end of a path says more than its start. */
  cut?: "start";
  /** Numbers have their ends below each other. */
  align?: "right";
  /** Left out where even its least is too much. */
  canGo?: true;
}

const GAP = "  ";
const ELLIPSIS = "…";

/** The titles' line, and a line for each row. Columns on the right give way first. */
export function formatTable(columns: readonly Column[], rows: readonly string[][], width: number): string[] {
  const cells = [columns.map(({ title }) => title), ...rows.map((row) => row.map(printable))];
  const widths = fitWidths(columns, cells, width);
  return cells.map((row) => {
    const fitted = row.map((text, at) => {
      const { cut: side, align } = columns[at]!;
      return pad(cut(text, widths[at]!, side), widths[at]!, align);
    });
    return fitted
      .filter((_, at) => widths[at]! > 0)
      .join(GAP)
      .trimEnd();
  });
}

function fitWidths(columns: readonly Column[], cells: readonly string[][], width: number): number[] {
  const widths = columns.map((_, at) => Math.max(...cells.map((row) => textWidth(row[at]!))));
  let excess = widths.reduce((sum, each) => sum + each + GAP.length, -GAP.length) - width;
  for (let at = columns.length - 1; at >= 0 && excess > 0; at--) {
    const { least, canGo } = columns[at]!;
    const cut = Math.min(excess, Math.max(0, widths[at]! - least));
    widths[at]! -= cut;
    excess -= cut;
    if (excess <= 0 || !canGo) continue;
    excess -= widths[at]! + GAP.length;
    widths[at] = 0;
  }
  return widths;
}

/** No wider than that; what is lost is at the end unless it is `side`. */
export function cut(text: string, width: number, side?: "start"): string {
  if (textWidth(text) <= width) return text;
  const characters = [...text];
  if (side === "start") characters.reverse();
  const kept: string[] = [];
  let room = width - 1;
  for (const character of characters) {
    room -= characterWidth(character);
    if (room < 0) break;
    kept.push(character);
  }
  return side === "start" ? ELLIPSIS + kept.reverse().join("") : kept.join("") + ELLIPSIS;
}

function pad(text: string, width: number, align: Column["align"]): string {
  const spaces = " ".repeat(Math.max(0, width - textWidth(text)));
  return align === "right" ? spaces + text : text + spaces;
}
