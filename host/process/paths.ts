// Names of files in options and messages. The kernel's names are bytes of any kind but NUL; strings of JavaScript are not.
//
// A byte that belongs to no UTF-8 character becomes a code unit of its own, U+DC80 to U+DCFF, which no valid text has. So a
// name goes through options, joins and comparisons as a string, and comes out as the same bytes.
import { isUtf8 } from "node:buffer";
import { readFileSync } from "node:fs";

const RAW_BYTES = 0xdc00;
const RAW_BYTE = /[\udc80-\udcff]/u;
const REPLACEMENT = "\ufffd";
const CHARACTER_MAX = 4;

/** The string that stands for these bytes. */
export function textOfBytes(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString();
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const length = characterLength(bytes, at);
    text +=
      length === 0 ? String.fromCharCode(RAW_BYTES + bytes[at]!) : bytes.toString("utf8", at, at + length);
    at += Math.max(length, 1);
  }
  return text;
}

/** 0 if no character begins there. */
function characterLength(bytes: Buffer, at: number): number {
  for (let length = 1; length <= CHARACTER_MAX && at + length <= bytes.length; length++) {
    if (isUtf8(bytes.subarray(at, at + length))) return length;
  }
  return 0;
}

/** The bytes that a string of textOfBytes() stands for: what a system call takes, without a NUL at the end. */
export function bytesOfText(text: string): Buffer {
  if (!RAW_BYTE.test(text)) return Buffer.from(text);
  const parts = Array.from(text, (character) => {
    const code = character.codePointAt(0)!;
    return RAW_BYTE.test(character) ? Buffer.of(code - RAW_BYTES) : Buffer.from(character);
  });
  return Buffer.concat(parts);
}

/** The path as node:fs takes it. */
export function filePath(path: string): string | Buffer {
  return RAW_BYTE.test(path) ? bytesOfText(path) : path;
}

/** What this process was started with, without the program's name. Node's own list has lost bytes that are not UTF-8. */
export function programArguments(): string[] {
  const known = process.argv.slice(2);
  if (!known.some((argument) => argument.includes(REPLACEMENT))) return known;
  const given = splitAtNul(ownCommandLine()).slice(-known.length);
  // Another text lies there if the process has been given another title.
  const isSame = given.length === known.length && given.every((bytes, i) => bytes.toString() === known[i]);
  return isSame ? given.map(textOfBytes) : known;
}

function ownCommandLine(): Buffer {
  try {
    return readFileSync("/proc/self/cmdline");
  } catch {
    return Buffer.alloc(0);
  }
}

function splitAtNul(bytes: Buffer): Buffer[] {
  const fields: Buffer[] = [];
  for (let start = 0; start < bytes.length; ) {
    const found = bytes.indexOf(0, start);
    const end = found === -1 ? bytes.length : found;
    fields.push(bytes.subarray(start, end));
    start = end + 1;
  }
  return fields;
}

/** Controls, marks that turn the direction of text, separators of lines, and what isn't text: they mislead terminals and readers. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
const TO_ESCAPE = /[\\\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/**
 * Other people's text, which might command a terminal or turn a line around, as one that can't: bytes of no character as \xff,
 * other characters as \u{1b}, and beside those a backslash as two, so that each escape is one.
 */
export function printable(text: string): string {
  return UNPRINTABLE.test(text) ? text.replace(TO_ESCAPE, escaped) : text;
}

function escaped(character: string): string {
  if (character === "\\") return "\\\\";
  const code = character.codePointAt(0)!;
  return RAW_BYTE.test(character) ? `\\x${(code - RAW_BYTES).toString(16)}` : `\\u{${code.toString(16)}}`;
}
