// What one process tells the next, as JSON: numbers of any size, bytes, and descriptors, which travel beside the text.
import { Descriptor } from "../linux/descriptor.ts";

/** JSON, and the descriptors that it names by their place here. They stay whose they were. */
export interface Document {
  readonly text: string;
  readonly fds: readonly number[];
}

export function encodeDocument(value: unknown): Document {
  const fds: number[] = [];
  const placeOf = (fd: number) => {
    // The same descriptor twice is one there, too.
    if (!fds.includes(fd)) fds.push(fd);
    return fds.indexOf(fd);
  };
  // Not the value itself: of a Buffer that is what its own toJSON() makes of it.
  const text = JSON.stringify(value, function (this: Record<string, unknown>, key, shown: unknown) {
    const each = this[key];
    if (typeof each === "bigint") return { $number: String(each) };
    if (each instanceof Uint8Array) return { $bytes: Buffer.from(each).toString("base64") };
    if (each instanceof Descriptor) return { $descriptor: placeOf(each.fd) };
    return shown;
  });
  return { text, fds };
}

/** `fds`: as they have arrived, in the same order. */
export function decodeDocument({ text, fds }: Document): unknown {
  return JSON.parse(text, (_, each: unknown) => {
    const [[name, value] = [], ...others] =
      typeof each === "object" && each !== null ? Object.entries(each) : [];
    if (others.length > 0) return each;
    if (name === "$number") return BigInt(value);
    if (name === "$bytes") return Buffer.from(value, "base64");
    return name === "$descriptor" ? new Descriptor(fds[value]!) : each;
  });
}
