// A file that lists guests, as schema/vsock-guests.schema.json has it.
import { type VsockGuests, validateGuests } from "../../../../build/schemas.js";
import { reasonOf, StartError } from "../../../errors.ts";
import { readBounded } from "../../../json/bounded-file.ts";
import { checkJson } from "../../../json/checked.ts";
import { whyNotTogether } from "./guest.ts";
import type { GuestSpec } from "./option-types.ts";

const BYTES_MAX = 256 << 10;

/** Throws StartError. */
export function readGuestsFile(path: string): GuestSpec[] {
  const { value, faults, warnings } = checkJson<VsockGuests>(bytesOf(path), validateGuests);
  // A member that is not known is one that would not be heeded.
  const [fault] = [...faults, ...warnings];
  if (value === undefined || fault !== undefined) throw new StartError(`${path}: ${fault}`);
  return value.guests.map(({ cid, ...others }) => ({ guestCid: cid, ...others }));
}

/** Throws StartError for a file that no process serves, whatever is given beside it. */
export async function checkGuestsFile(path: string): Promise<void> {
  const why = whyNotTogether(readGuestsFile(path));
  if (why !== undefined) throw new StartError(`${path}: ${why}`);
}

function bytesOf(path: string): Uint8Array {
  try {
    return readBounded(path, BYTES_MAX);
  } catch (error) {
    throw new StartError(`can't read the guests of ${path}: ${reasonOf(error)}`, error);
  }
}
