// The disk that a back-end has, if it has one.
import { type DiskFacts, diskFacts, whyNoDisk } from "../../front-end/disk-facts.ts";
import type { FrontEnd } from "../../front-end/front-end.ts";
import { NoBlockDevice } from "../attach.ts";

/** Throws NoBlockDevice. */
export function diskOf(frontEnd: FrontEnd): DiskFacts {
  if (frontEnd.config.length === 0) throw new NoBlockDevice("it gives no configuration space");
  const disk = diskFacts(frontEnd.config, frontEnd.backendFeatures);
  const reason = whyNoDisk(disk);
  if (reason !== undefined) throw new NoBlockDevice(reason);
  return disk;
}
