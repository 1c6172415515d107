// Which keys print a character, by the keymap that Linux' consoles begin with: that of a keyboard of the USA.

/** A key, without and with shift; those of letters follow from their names. */
const KEYS: Readonly<Record<string, string>> = {
  GRAVE: "`~",
  1: "1!",
  2: "2@",
  3: "3#",
  4: "4$",
  5: "5%",
  6: "6^",
  7: "7&",
  8: "8*",
  9: "9(",
  0: "0)",
  MINUS: "-_",
  EQUAL: "=+",
  LEFTBRACE: "[{",
  RIGHTBRACE: "]}",
  BACKSLASH: "\\|",
  SEMICOLON: ";:",
  APOSTROPHE: "'\"",
  COMMA: ",<",
  DOT: ".>",
  SLASH: "/?",
  SPACE: " ",
  TAB: "\t",
  ENTER: "\n",
};

/** Names of keys to hold down at once, the last one last; undefined if no key prints this character. */
export function keysFor(character: string): string[] | undefined {
  if (/^[a-z]$/i.test(character)) {
    const key = `KEY_${character.toUpperCase()}`;
    return character === character.toUpperCase() ? ["KEY_LEFTSHIFT", key] : [key];
  }
  for (const [name, [plain, shifted]] of Object.entries(KEYS)) {
    if (character === plain) return [`KEY_${name}`];
    if (character === shifted) return ["KEY_LEFTSHIFT", `KEY_${name}`];
  }
  return undefined;
}
