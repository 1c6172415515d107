// All devices, by the type that description files have. Each is a folder, which nothing else names; it is loaded when it is asked for.
import type { DeviceProgram } from "./program.ts";

export const DEVICES: Readonly<Record<string, () => Promise<DeviceProgram>>> = {
  block: async () => (await import("./block/options.ts")).program,
  console: async () => (await import("./console/options.ts")).program,
  rng: async () => (await import("./rng/options.ts")).program,
};

/** The type that is meant where none is named. */
export const DEFAULT_TYPE = "block";

export function allPrograms(): Promise<DeviceProgram[]> {
  return Promise.all(Object.values(DEVICES).map((load) => load()));
}
