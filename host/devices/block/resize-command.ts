// `vringd ctl NAME resize`: the disk becomes as large as its file or device is, or as it is told to be.
import type { DeviceCommand } from "../device.ts";
import type { DiskSize, NewSize } from "./disk-size.ts";

const UNITS = "KMGTP";
const USAGE = "resize takes --size=BYTES, such as --size=20G, and --shrink, and nothing else";

export function resizeCommand(size: DiskSize): DeviceCommand {
  return {
    usage: "[--size=BYTES] [--shrink]",
    help: "be as large as the file or device is by now; --size: make the file so large first; --shrink: or smaller",
    async run(args) {
      const before = size.byteLength;
      await size.resize(newSize(args));
      return { sizeBytes: Number(size.byteLength), formerSizeBytes: Number(before) };
    },
  };
}

function newSize(args: readonly string[]): NewSize {
  let byteLength: bigint | undefined;
  let shrink = false;
  for (const arg of args) {
    if (arg === "--shrink" && !shrink) shrink = true;
    else if (arg.startsWith("--size=") && byteLength === undefined) byteLength = bytesOf(arg);
    else throw new RangeError(USAGE);
  }
  return { byteLength, shrink };
}

/** "--size=20G" */
function bytesOf(arg: string): bigint {
  const [, digits, unit = ""] = /^--size=(\d{1,19})([KMGTP]?)$/i.exec(arg) ?? [];
  if (digits === undefined) throw new RangeError(USAGE);
  return BigInt(digits) * 1024n ** BigInt(unit === "" ? 0 : UNITS.indexOf(unit.toUpperCase()) + 1);
}
