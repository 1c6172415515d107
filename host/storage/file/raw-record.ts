// Remembers of a disk that it was served raw. From then on its contents are the guest's, who may write whatever it likes there,
// also what another format's images begin with.
//
// The record is an extended attribute of the image, or else a file in the state directory: devices, exports and some file
// systems have no attributes. It names the size, which no guest can change: an image of another format that was written over
// a raw one has another, most likely.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { extendedAttribute, setExtendedAttribute } from "../../linux/extended-attribute.ts";
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
    for (const made of [dirname(directory), directory, join(directory, DIRECTORY)]) makeDirectory(made);
    writeFileSync(fileIn(directory, disk), record, { mode: 0o600 });
    return true;
  } catch {
    return false;
  }
}

/** Not by Node's recursive mkdir, which never ends where the kernel says of a new directory that it doesn't exist, as in /proc. */
function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch {
    // It is there already, or the file in it can't be written either.
  }
}

function recordOf({ byteLength }: RecordedDisk): string {
  return `raw ${byteLength}`;
}

function fileIn(directory: string, { identity }: RecordedDisk): string {
  return join(directory, DIRECTORY, digestOf([...identity.parts, String(identity.bornNs)]));
}

/** As systemd's StateDirectory= has it, or else by the user: file-hierarchy(7). The first is written to. */
function stateDirectories(): string[] {
  const { STATE_DIRECTORY, XDG_STATE_HOME } = process.env;
  if (STATE_DIRECTORY) return STATE_DIRECTORY.split(":");
  if (process.getuid?.() === 0) return ["/var/lib/vringd"];
  return [join(XDG_STATE_HOME || join(homedir(), ".local", "state"), "vringd")];
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, "latin1");
  } catch {
    return undefined;
  }
}
