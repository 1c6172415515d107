// The requests of man(7) that our pages need.
import type { Block } from "./prose.ts";

const INDENT = 4;

export function section(title: string): string {
  return `.SH ${argument(title)}`;
}

export function subsection(title: string): string {
  return `.SS ${argument(title)}`;
}

/** A term, and below it, indented, what it means. */
export function tagged(term: string, text: string): string {
  return `.TP\n${term}\n${line(text)}`;
}

export function bold(text: string): string {
  return `\\fB${escaped(text)}\\fR`;
}

export function italic(text: string): string {
  return `\\fI${escaped(text)}\\fR`;
}

export function block(block: Block): string {
  if (block.type === "paragraph") return `.PP\n${line(markedUp(block.text))}`;
  if (block.type === "term") return tagged(markedUp(block.term), markedUp(block.text));
  const lines = block.lines.map((text) => line(escaped(text)));
  return [".PP", `.RS ${INDENT}`, ".nf", ...lines, ".fi", ".RE"].join("\n");
}

/** `literal` and _name_. */
function markedUp(text: string): string {
  return text
    .split(/(`[^`]+`|\b_[^_]+_\b)/)
    .map((part) => {
      if (part.startsWith("`")) return bold(part.slice(1, -1));
      return /^_.+_$/.test(part) ? italic(part.slice(1, -1)) : escaped(part);
    })
    .join("");
}

/** A hyphen is a minus, so that options can be searched for and copied; and other characters that roff reads its own way. */
export function escaped(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll("'", "\\(aq")
    .replaceAll("`", "\\(ga")
    .replaceAll("^", "\\(ha")
    .replaceAll("~", "\\(ti");
}

/** What has been escaped, as a line of text: a dot in front would be a request. */
export function line(text: string): string {
  return text.startsWith(".") ? `\\&${text}` : text;
}

function argument(text: string): string {
  return `"${escaped(text).replaceAll('"', "\\(dq")}"`;
}
