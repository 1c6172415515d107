// A file that lists disks, as schema/blk-disks.schema.json has it.
import { type BlkDisks, validateDiskList } from "../../../../build/schemas.js";
import { reasonOf, StartError } from "../../../errors.ts";
import { readBounded } from "../../../json/bounded-file.ts";
import { type Checked, checkJson } from "../../../json/checked.ts";
import { defaultsOf } from "../../../options/option.ts";
import { whyNotTogether } from "../../members.ts";
import type { Member } from "../../program.ts";
import { BLOCK_OPTIONS, type BlockValues } from "../options.ts";
import { checkDisk, memberOf } from "./disk.ts";
import { DISKS } from "./words.ts";

/** Far more than as many disks take as there may be. */
const BYTES_MAX = 1 << 20;

/** Throws StartError. */
export function readDisksFile(path: string, defaults: BlockValues): Member[] {
  const list = checkedOf(checkJson<BlkDisks>(bytesOf(path), validateDiskList), path);
  const members = list.disks.map((disk, i) =>
    memberOf(checkedOf(checkDisk(disk, `/disks/${i}`), path), defaults, `${path}: `),
  );
  const why = whyNotTogether(members, DISKS);
  if (why !== undefined) throw new StartError(`${path}: ${why}`);
  return members;
}

/** Throws StartError for a file that no process serves, whatever is given beside it. */
export async function checkDisksFile(path: string): Promise<void> {
  readDisksFile(path, defaultsOf(BLOCK_OPTIONS));
}

function checkedOf<T>({ value, faults, warnings }: Checked<T>, path: string): T {
  // A property that is not known is one that would not be heeded.
  const [fault] = [...faults, ...warnings];
  if (value === undefined || fault !== undefined) throw new StartError(`${path}: ${fault}`);
  return value;
}

function bytesOf(path: string): Uint8Array {
  try {
    return readBounded(path, BYTES_MAX);
  } catch (error) {
    throw new StartError(`can't read the disks of ${path}: ${reasonOf(error)}`, error);
  }
}
