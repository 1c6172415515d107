// Keys as a terminal in raw mode sends them.

/** Of one read, which may bring several. Those that are more than a character begin with ESC (ECMA-48, 5.4). */
export function keysIn(text: string): string[] {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: keys are control characters
  return (text.match(/\x1b\[[\d;]*[A-Za-z~]|\x1bO[A-Z]|[\s\S]/gu) ?? []).map((key) => NAMES[key] ?? key);
}

const NAMES: Readonly<Record<string, string>> = {
  "\x1b[A": "Up",
  "\x1bOA": "Up",
  "\x1b[B": "Down",
  "\x1bOB": "Down",
  "\x1b[5~": "PgUp",
  "\x1b[6~": "PgDn",
  "\x1b[H": "Home",
  "\x1bOH": "Home",
  "\x1b[1~": "Home",
  "\x1b[F": "End",
  "\x1bOF": "End",
  "\x1b[4~": "End",
  "\r": "Enter",
  "\n": "Enter",
  "\x1b": "Esc",
  "\x7f": "Backspace",
  "\b": "Backspace",
  " ": "Space",
  "\x03": "Ctrl-C",
  "\x1a": "Ctrl-Z",
};
