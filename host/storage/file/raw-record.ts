// Remembers of a disk that it was served raw. From then on its contents are the guest's, who may write whatever it likes there,
// also what another format's images begin with.
//
// The record names the size, which no guest can change: an image of another format that was written over a raw one has
// another, most likely.
import { DiskRecord, type RememberedDisk } from "./disk-record.ts";

const RECORD = new DiskRecord("user.vringd.format", "raw-disks");

export interface RecordedDisk extends RememberedDisk {
  byteLength: bigint;
}

/** Whether it was served raw before, at this size. */
export function wasServedRaw(disk: RecordedDisk): boolean {
  return RECORD.read(disk).includes(recordOf(disk));
}

/** False if nothing could be written anywhere. */
export function recordServedRaw(disk: RecordedDisk): boolean {
  return wasServedRaw(disk) || RECORD.write(disk, recordOf(disk));
}

function recordOf({ byteLength }: RecordedDisk): string {
  return `raw ${byteLength}`;
}
