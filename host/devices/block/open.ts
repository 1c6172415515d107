// Opens a disk as its options say.
import { StartError } from "../../errors.ts";
import { openStorage } from "../../storage/open.ts";
import type { InheritedFile } from "../../storage/storage.ts";
import type { OpenContext } from "../program.ts";
import { BlockDevice } from "./device.ts";
import { faultOf, limitsAmong } from "./limits.ts";
import { type BlockValues, type DiskValues, threadCount } from "./options.ts";

/** Throws StartError. */
export async function openDisk(
  values: DiskValues & Pick<BlockValues, "standby">,
  { stopping, log, inherited }: OpenContext,
): Promise<BlockDevice> {
  const { blkFile, lockTimeout, watchSize, numQueues, queueSize, engine, pollUs, threads, ...how } = values;
  const limits = limitsAmong(values);
  const fault = faultOf(limits);
  if (fault !== undefined) throw new StartError(fault);
  const storage = await openStorage(
    {
      ...how,
      path: blkFile,
      lockTimeoutMs: lockTimeout * 1000,
      succeeds: inherited !== undefined,
      inherited: inherited?.offer as InheritedFile | undefined,
    },
    stopping,
    log,
  );
  const workers = { threads: threadCount({ threads, numQueues }), engine, pollUs };
  return new BlockDevice(storage, { queueCount: numQueues, queueSize }, workers, {
    watchSeconds: watchSize,
    limits,
  });
}
