// The disks of one process: from a file of disks, from whoever adds one while it runs, or from a predecessor.
import { heeded } from "../../../json/given.ts";
import { flagOf, UsageError } from "../../../options/option.ts";
import type { MemberChanges, Members } from "../../program.ts";
import type { BlockValues } from "../options.ts";
import { checkDisk, memberOf } from "./disk.ts";
import { DISKS } from "./words.ts";

/** What two disks can't have in common. */
const OF_ONE = ["blkFile", "overlay", "serial"] as const;

/** Undefined: the other options say what there is to know of the one disk. Throws UsageError, and StartError. */
export async function membersOf(
  values: BlockValues,
  asked: readonly unknown[] | undefined,
): Promise<Members | undefined> {
  const { config } = values;
  if (config === undefined) return undefined;
  const lonely = OF_ONE.find((name) => values[name] !== undefined);
  if (lonely !== undefined)
    throw new UsageError(
      `${flagOf(lonely)} is of no use with ${flagOf("config")}, whose file says it for each disk`,
    );
  const changes: MemberChanges = { ...DISKS, read: (disk) => memberOf(heeded(checkDisk(disk)), values) };
  if (asked !== undefined) return { first: asked.map(changes.read), changes };
  const { readDisksFile } = await import("./file.ts");
  return { first: readDisksFile(config, values), changes };
}
