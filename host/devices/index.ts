// All devices, by the type that description files have. Each is a folder, which nothing else names; it is loaded when it is asked for.
import type { DeviceProgram } from "./program.ts";

export const DEVICES: Readonly<Record<string, () => Promise<DeviceProgram>>> = {
<<<<<<< HEAD
  "vringd-rng": async () => (await import("./rng/options.ts")).program,
  "vringd-console": async () => (await import("./console/options.ts")).program,
  "vringd-blk": async () => (await import("./block/options.ts")).program,
||||||| 78fbe2b
  "vringd-blk": async () => (await import("./block/options.ts")).program,
=======
  block: async () => (await import("./block/options.ts")).program,
>>>>>>> hostdev
};

/** The type that is meant where none is named. */
export const DEFAULT_TYPE = "block";

export function allPrograms(): Promise<DeviceProgram[]> {
  return Promise.all(Object.values(DEVICES).map((load) => load()));
}
