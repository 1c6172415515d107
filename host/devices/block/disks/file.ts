// A file that lists disks, as schema/blk-disks.schema.json has it.
import { type BlkDisks, validateDiskList } from "../../../../build/schemas.js";
import { StartError } from "../../../errors.ts";
import { checkJson } from "../../../json/checked.ts";
import { heeded, readGiven } from "../../../json/given.ts";
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
  const place = `${path}: `;
  const bytes = readGiven(path, BYTES_MAX, "the disks of ");
  const { disks } = heeded(checkJson<BlkDisks>(bytes, validateDiskList), place);
  const members = disks.map((disk, i) =>
    memberOf(heeded(checkDisk(disk, `/disks/${i}`), place), defaults, place),
  );
  const why = whyNotTogether(members, DISKS);
  if (why !== undefined) throw new StartError(`${place}${why}`);
  return members;
}

/** Throws StartError for a file that no process serves, whatever is given beside it. */
export async function checkDisksFile(path: string): Promise<void> {
  readDisksFile(path, defaultsOf(BLOCK_OPTIONS));
}
