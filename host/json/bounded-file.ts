// A file that others wrote, read without waiting and with a bound.
import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { filePath } from "../process/paths.ts";

/** Throws an Error whose message says why not. */
export function readBounded(path: string, bytesMax: number): Uint8Array {
  // Opening a pipe that nobody writes to must not wait.
  const fd = openSync(filePath(path), constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Error("not a regular file");
    if (stat.size > bytesMax) throw new Error(`it has more than ${bytesMax} bytes`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}
