// Names of choices in sentences: whoever starts a back-end by a program knows them as options of its command line, and by the
// library as properties. Rooms below both write a mark, and whoever has the reader's ear puts the name in its place.

/** Around the name of a choice in a sentence: no text of ours has it. */
const MARK = "\x1f";
const MARKED = new RegExp(`${MARK}([^${MARK}=]+)(?:=([^${MARK}]*))?${MARK}`, "g");

/** How a choice is called. */
export type NameOfChoice = (name: string, value: string | undefined) => string;

/**
 * In the sentence of a StartError or of a log line, what whoever starts a back-end can choose, such as "readOnly", and maybe the
 * value to give: by its name in the library.
 */
export function choice(name: string, value?: string | number): string {
  return `${MARK}${name}${value === undefined ? "" : `=${value}`}${MARK}`;
}

export const nameInLibrary: NameOfChoice = (name, value) =>
  value === undefined ? name : `${name}: ${value}`;

export function sayChoices(text: string, nameOf: NameOfChoice): string {
  if (!text.includes(MARK)) return text;
  return text.replace(MARKED, (_, name: string, value: string | undefined) => nameOf(name, value));
}
