// Labels with text beside them, whole words to a line.
import { paint, terminalWidth, wrap } from "./terminal.ts";

/** One row's lines; the text begins at the column `indent`. */
export function formatRow(label: string, text: string, indent: number, width = terminalWidth()): string[] {
  const [first, ...rest] = wrap(text, width - indent);
  return [paint("bold", label.padEnd(indent)) + first, ...rest.map((line) => " ".repeat(indent) + line)];
}
