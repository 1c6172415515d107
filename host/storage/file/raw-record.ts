// Remembers of a disk that it was served raw. From then on its contents are the guest's, who may write whatever it likes there,
// also what another format's images begin with.
//
// The record is an extended attribute of the image, or else a file in the state directory: devices, exports and some file
// systems have no attributes. It names the size, which no guest can change: an image of another format that was written over
// a raw one has another, most likely.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { extendedAttribute, setExtendedAttribute } from "../../linux/extended-attribute.ts";
import { makeStateDirectory, stateDirectories } from "../../process/state-directories.ts";
import { digestOf, type Identity } from "./identity.ts";

const ATTRIBUTE = "user.vringd.format";
const DIRECTORY = "raw-disks";

export interface RecordedDisk {
  byteLength: bigint;
  identity: Identity;
  /** Of a file that may have extended attributes. */
  fd?: number | undefined;
}

/** Whether it was served raw before, at this size. */
export function wasServedRaw(disk: RecordedDisk): boolean {
  const expected = recordOf(disk);
  if (disk.fd !== undefined && extendedAttribute(disk.fd, ATTRIBUTE) === expected) return true;
  return stateDirectories().some((directory) => readText(fileIn(directory, disk)) === expected);
}

/** False if nothing could be written anywhere. */
export function recordServedRaw(disk: RecordedDisk): boolean {
  if (wasServedRaw(disk)) return true;
  const record = recordOf(disk);
  if (disk.fd !== undefined && setExtendedAttribute(disk.fd, ATTRIBUTE, record)) return true;
  const [directory] = stateDirectories();
  if (directory === undefined) return false;
  try {
    makeStateDirectory(directory, DIRECTORY);
    writeFileSync(fileIn(directory, disk), record, { mode: 0o600 });
    return true;
  } catch {
    return false;
  }
}

function recordOf({ byteLength }: RecordedDisk): string {
  return `raw ${byteLength}`;
}

function fileIn(directory: string, { identity }: RecordedDisk): string {
  return join(directory, DIRECTORY, digestOf([...identity.parts, String(identity.bornNs)]));
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, "latin1");
  } catch {
    return undefined;
  }
}
