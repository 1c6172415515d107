// All devices, by the type that description files have. Each is a folder, which nothing else names; it is loaded when it is asked for.
import type { DeviceProgram } from "./program.ts";

export const DEVICES: Readonly<Record<string, () => Promise<DeviceProgram>>> = {
  block: async () => (await import("./block/options.ts")).program,
  console: async () => (await import("./console/options.ts")).program,
  gpio: async () => (await import("./gpio/options.ts")).program,
  gpu: async () => (await import("./gpu/options.ts")).program,
  i2c: async () => (await import("./i2c/options.ts")).program,
  input: async () => (await import("./input/options.ts")).program,
  rng: async () => (await import("./rng/options.ts")).program,
  vsock: async () => (await import("./vsock/options.ts")).program,
};

/** The type that is meant where none is named. */
export const DEFAULT_TYPE = "block";

export function allPrograms(): Promise<DeviceProgram[]> {
  return Promise.all(Object.values(DEVICES).map((load) => load()));
}
