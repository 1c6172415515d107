// A file that lists guests, as schema/vsock-guests.schema.json has it.
import { type VsockGuests, validateGuests } from "../../../../build/schemas.js";
import { StartError } from "../../../errors.ts";
import { checkJson } from "../../../json/checked.ts";
import { heeded, readGiven } from "../../../json/given.ts";
import { whyNotTogether } from "./guest.ts";
import type { GuestSpec } from "./option-types.ts";

const BYTES_MAX = 256 << 10;

/** Throws StartError. */
export function readGuestsFile(path: string): GuestSpec[] {
  const bytes = readGiven(path, BYTES_MAX, "the guests of ");
  const { guests } = heeded(checkJson<VsockGuests>(bytes, validateGuests), `${path}: `);
  return guests.map(({ cid, ...others }) => ({ guestCid: cid, ...others }));
}

/** Throws StartError for a file that no process serves, whatever is given beside it. */
export async function checkGuestsFile(path: string): Promise<void> {
  const why = whyNotTogether(readGuestsFile(path));
  if (why !== undefined) throw new StartError(`${path}: ${why}`);
}
