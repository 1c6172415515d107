// One description file: read with a bound, and checked.
import { type BackendDescription, validateDescription } from "../../build/schemas.js";
import { reasonOf } from "../errors.ts";
import { readBounded } from "../json/bounded-file.ts";
import { type Checked, checkJson } from "../json/checked.ts";

/** As much as libvirt reads. */
const BYTES_MAX = 1 << 20;

export function readDescription(path: string): Checked<BackendDescription> {
  try {
    return checkJson(readBounded(path, BYTES_MAX), validateDescription);
  } catch (error) {
    return { faults: [`it can't be read: ${reasonOf(error)}`], warnings: [] };
  }
}
