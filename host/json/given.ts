// JSON that somebody has given a program to heed: what is wrong with it is told in a sentence, and nothing of it is passed over.
import { reasonOf, StartError } from "../errors.ts";
import { readBounded } from "./bounded-file.ts";
import type { Checked } from "./checked.ts";

/** `what`: of the file, such as "the guests of "; or nothing. Throws StartError. */
export function readGiven(path: string, bytesMax: number, what = ""): Uint8Array {
  try {
    return readBounded(path, bytesMax);
  } catch (error) {
    throw new StartError(`can't read ${what}${path}: ${reasonOf(error)}`, error);
  }
}

/** `place`: before the sentence, such as "disks.json: ". Throws StartError. */
export function heeded<T>({ value, faults, warnings }: Checked<T>, place = ""): T {
  // A property that is not known is one that would not be heeded.
  const [fault] = [...faults, ...warnings];
  if (value === undefined || fault !== undefined) throw new StartError(`${place}${fault}`);
  return value;
}
