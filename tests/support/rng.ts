// The program vringd-rng, and sources for it in the daemon's own directory.
import { dirname, join } from "node:path";
import { PROGRAM, Vringd, type VringdOptions } from "./vringd.ts";

export const RNG_PROGRAM = [process.execPath, join(dirname(PROGRAM), "vringd-rng.mjs")];

/** `source`: a path, or makes one in a directory. Without it, the program has its default. */
export function startRng(
  source?: string | ((directory: string) => string),
  options: VringdOptions = {},
): Promise<Vringd> {
  const deviceArgs = (directory: string) => {
    if (source === undefined) return [];
    return [`--source=${typeof source === "string" ? source : source(directory)}`];
  };
  return Vringd.start({ program: RNG_PROGRAM, deviceArgs, ...options });
}
