// One disk of several: what was asked for it, and what follows from that and from what holds for all.
import { type Disk, validateDisk } from "../../../../build/schemas.js";
import { StartError } from "../../../errors.ts";
import { type Checked, checkValue } from "../../../json/checked.ts";
import { hyphenated } from "../../../options/option.ts";
import type { Member, Use } from "../../program.ts";
import { faultOf, limitsAmong } from "../limits.ts";
import { type BlockValues, type DiskValues, MEMBER_OPTIONS } from "../options.ts";

/** Where many disks share the processors, more threads for one take time from others. */
const THREADS = 1;

const IN_MEMORY = "memory:";

/** `place`: where in a file it lies. */
export function checkDisk(asked: unknown, place?: string): Checked<Disk> {
  return checkValue<Disk>(asked, validateDisk, place);
}

/** `defaults`: what was given for all. Throws StartError, whose sentence begins with `place`. */
export function memberOf(disk: Disk, defaults: BlockValues, place = ""): Member {
  const { name, socket } = disk;
  const values = valuesOf(disk, defaults);
  const fault = faultOf(limitsAmong(values));
  if (fault !== undefined) throw new StartError(`${place}disk ${name}: ${fault}`);
  const { blkFile, overlay } = values;
  return {
    name,
    // "disk" is what its image is called, in the metric that says what runs.
    labels: { name },
    logFields: { disk: name },
    socketPath: socket,
    asked: disk,
    shown: { image: blkFile, ...(overlay !== undefined && { overlay }) },
    uses: usesOf(values),
    open: async (context) => (await import("../open.ts")).openDisk(values, context),
  };
}

function valuesOf(disk: Disk, defaults: BlockValues): DiskValues & Pick<BlockValues, "standby"> {
  const given: Readonly<Record<string, unknown>> = { ...disk };
  const own = Object.keys(MEMBER_OPTIONS).map((name) => [name, given[hyphenated(name)]]);
  const said = Object.fromEntries(own.filter(([, value]) => value !== undefined));
  return { ...defaults, threads: defaults.threads ?? THREADS, ...said };
}

/** What lies in this process's memory is each disk's own, though they are called the same. */
function usesOf({ blkFile, overlay, readOnly }: DiskValues): Use[] {
  if (overlay !== undefined)
    return [
      { path: overlay, isRead: readOnly },
      { path: blkFile, isRead: true },
    ];
  return blkFile.startsWith(IN_MEMORY) ? [] : [{ path: blkFile, isRead: readOnly }];
}
