// What there is to observe: the running device, as it shows itself to those who only look.
import type { Activity } from "../backend/activity.ts";
import type { Backend, FrontEndState } from "../backend/backend.ts";
import type { Device } from "../devices/device.ts";
import type { Entrance } from "../protocol/entrance.ts";

export interface Subject {
  /** The program's, such as "vringd-blk". */
  name: string;
  entrance: Entrance;
  backend: {
    readonly device: Pick<Device, "type" | "facts" | "featureNames">;
    readonly workers: Pick<Backend["workers"], "engine" | "threads" | "faults">;
    readonly activity: Activity;
    /** The front-end that is served now, if one is. */
    readonly frontEnd: FrontEndState | undefined;
  };
}
