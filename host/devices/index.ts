// All devices, by the name of their program. Each is a folder, which nothing else names; it is loaded when it is asked for.
import type { DeviceProgram } from "./program.ts";

export const DEVICES: Readonly<Record<string, () => Promise<DeviceProgram>>> = {
  "vringd-rng": async () => (await import("./rng/options.ts")).program,
  "vringd-console": async () => (await import("./console/options.ts")).program,
  "vringd-blk": async () => (await import("./block/options.ts")).program,
};

export function allPrograms(): Promise<DeviceProgram[]> {
  return Promise.all(Object.values(DEVICES).map((load) => load()));
}
