// One description file: read with a bound, and checked.
import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { type BackendDescription, validateDescription } from "../../build/schemas.js";
import { reasonOf } from "../errors.ts";
import { filePath } from "../process/paths.ts";
import { type Checked, checkJson } from "./checked.ts";

/** As much as libvirt reads. */
const BYTES_MAX = 1 << 20;

export function readDescription(path: string): Checked<BackendDescription> {
  try {
    return checkJson(readBounded(path), validateDescription);
  } catch (error) {
    return { faults: [`it can't be read: ${reasonOf(error)}`], warnings: [] };
  }
}

function readBounded(path: string): Uint8Array {
  // Opening a pipe that nobody writes to must not wait.
  const fd = openSync(filePath(path), constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Error("not a regular file");
    if (stat.size > BYTES_MAX) throw new Error(`it has more than ${BYTES_MAX} bytes`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}
