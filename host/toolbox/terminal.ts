// What goes to the terminal, or to whatever stands in for one.
import { styleText } from "node:util";
import { printable } from "../process/paths.ts";

export { printable };

export const NAME = "vringd";

type Style = Parameters<typeof styleText>[0];

const INDENT = "  ";

/** Columns of the terminal. Lines for programs are never cut. */
export function terminalWidth(): number {
  return columnsOf(process.stdout);
}

/** Some terminals say that they have none. */
function columnsOf({ isTTY, columns }: NodeJS.WriteStream): number {
  return (isTTY && columns) || Number.POSITIVE_INFINITY;
}

export function printLines(lines: readonly string[]): void {
  process.stdout.write(lines.map((line) => `${line}\n`).join(""));
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
}

/** One sentence on standard error: a line, but for people. */
export function complain(sentence: string): void {
  const text = `${NAME}: ${sentence}`;
  const lines = wrap(text, columnsOf(process.stderr) - INDENT.length);
  process.stderr.write(`${lines.join(`\n${INDENT}`)}\n`);
}

export function paint(style: Style, text: string): string {
  const { NO_COLOR, TERM } = process.env;
  const hasColour = process.stdout.isTTY && !NO_COLOR && TERM !== "dumb";
  return hasColour ? styleText(style, text) : text;
}

/** Lines of whole words. A word that is longer than a line has a line of its own. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of printable(text).split(" ")) {
    const line = lines.at(-1);
    if (line !== undefined && textWidth(line) + 1 + textWidth(word) <= width)
      lines.push(`${lines.pop()} ${word}`);
    else lines.push(word);
  }
  return lines;
}

export function textWidth(text: string): number {
  return [...text].reduce((sum, character) => sum + characterWidth(character), 0);
}

/** Columns that terminals give to it, as nearly as Unicode's classes tell. */
export function characterWidth(character: string): number {
  if (/\p{M}/u.test(character)) return 0;
  return /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}]/u.test(
    character,
  )
    ? 2
    : 1;
}
