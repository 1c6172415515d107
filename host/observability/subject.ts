// What there is to observe: the running device, as it shows itself to those who only look.
import type { Activity } from "../backend/activity.ts";
import type { Backend, FrontEndState } from "../backend/backend.ts";
import type { StandbyState } from "../backend/service-state.ts";
import type { Device } from "../devices/device.ts";
import type { Entrance } from "../protocol/entrance.ts";

export interface Subject {
  /** The program's, such as "vringd-blk". */
  name: string;
  entrance: Entrance;
  /** What tells its metrics from those of other devices in the process. Left out: there are none. */
  labels?: Readonly<Record<string, string>> | undefined;
  /** Left out: none is kept. */
  standby?: StandbyState | undefined;
  backend: {
    readonly device: Pick<
      Device,
      "type" | "facts" | "featureNames" | "commands" | "terminals" | "screens" | "watchedScreens"
    >;
    readonly workers: Pick<Backend["workers"], "engine" | "threads" | "faults">;
    readonly activity: Activity;
    /** Those that are connected, in the order in which they came. */
    readonly frontEnds: readonly FrontEndState[];
  };
}
