// What is remembered of a disk for as long as it exists: an extended attribute of the image, or else a file in the state
// directory, since devices, exports and some file systems have no attributes.
import { closeSync, constants, fsyncSync, openSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  extendedAttribute,
  removeExtendedAttribute,
  setExtendedAttribute,
} from "../../linux/extended-attribute.ts";
import { makeStateDirectory, stateDirectories } from "../../process/state-directories.ts";
import { digestOf, type Identity } from "./identity.ts";

export interface RememberedDisk {
  identity: Identity;
  /** Of a file that may have extended attributes. */
  fd?: number | undefined;
}

export class DiskRecord {
  constructor(
    private readonly attribute: string,
    /** In the state directory. */
    private readonly directory: string,
  ) {}

  /** All that is found, in whatever place. */
  read(disk: RememberedDisk): string[] {
    const attribute = disk.fd === undefined ? undefined : extendedAttribute(disk.fd, this.attribute);
    return [attribute, ...this.files(disk).map(readText)].filter((text) => text !== undefined);
  }

  /** False if nothing could be written anywhere. */
  write(disk: RememberedDisk, text: string): boolean {
    if (disk.fd !== undefined && setExtendedAttribute(disk.fd, this.attribute, text)) return true;
    const [directory] = stateDirectories();
    if (directory === undefined) return false;
    try {
      makeStateDirectory(directory, this.directory);
      writeFileSync(this.fileIn(directory, disk), text, { mode: 0o600 });
      return true;
    } catch {
      return false;
    }
  }

  remove(disk: RememberedDisk): void {
    if (disk.fd !== undefined) removeExtendedAttribute(disk.fd, this.attribute);
    for (const file of this.files(disk)) {
      try {
        unlinkSync(file);
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
    }
  }

  /** What was written or removed is so after the machine has died, too. */
  sync(disk: RememberedDisk): void {
    if (disk.fd !== undefined) fsyncSync(disk.fd);
    for (const directory of stateDirectories()) {
      syncPath(this.fileIn(directory, disk));
      syncPath(join(directory, this.directory));
      syncPath(directory);
    }
  }

  private files(disk: RememberedDisk): string[] {
    return stateDirectories().map((directory) => this.fileIn(directory, disk));
  }

  private fileIn(directory: string, { identity }: RememberedDisk): string {
    return join(directory, this.directory, digestOf([...identity.parts, String(identity.bornNs)]));
  }
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, "latin1");
  } catch {
    return undefined;
  }
}

function syncPath(path: string): void {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY);
  } catch (error) {
    if (isMissing(error)) return;
    throw error;
  }
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function isMissing(error: unknown): boolean {
  return ["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code!);
}
