// The guests of one process, from options or from a file of guests.
import { StartError } from "../../../errors.ts";
import { flagOf, UsageError } from "../../../options/option.ts";
import type { Members, OpenContext } from "../../program.ts";
import type { VsockValues } from "../options.ts";
import { type GuestOfMany, keepFrom, whyNotTogether } from "./guest.ts";
import type { GuestSpec } from "./option-types.ts";

/** What each guest has of its own. */
const OF_ONE = ["guestCid", "udsPath", "forwardCid", "forwardListen"] as const;

/** Undefined: the other options say what there is to know of the one guest. Throws UsageError, and StartError. */
export async function membersOf(values: VsockValues): Promise<Members | undefined> {
  const { guest, guestsFile, maxConnections } = values;
  const given =
    guest.length > 0 ? flagOf("guest") : guestsFile === undefined ? undefined : flagOf("guestsFile");
  if (given === undefined) return undefined;
  if (guest.length > 0 && guestsFile !== undefined)
    throw new UsageError(`${flagOf("guest")} and ${flagOf("guestsFile")} exclude each other`);
  const lonely = OF_ONE.find((name) => values[name] !== undefined);
  if (lonely !== undefined)
    throw new UsageError(`${flagOf(lonely)} is of no use with ${given}, which says it for each guest`);
  const specs: readonly GuestSpec[] =
    guestsFile === undefined ? guest : (await import("./file.ts")).readGuestsFile(guestsFile);
  const guests = specs.map((each) => ({ ...each, maxConnections: each.maxConnections ?? maxConnections }));
  const why = whyNotTogether(guests);
  if (why !== undefined)
    throw guestsFile === undefined ? new UsageError(why) : new StartError(`${guestsFile}: ${why}`);
  return together(guests);
}

async function together(guests: readonly GuestOfMany[]): Promise<Members> {
  const { VsockDevice } = await import("../device.ts");
  const { PATIENCE } = await import("../patience.ts");
  const { Neighbourhood } = await import("../siblings/neighbourhood.ts");
  const neighbours = new Neighbourhood();
  const first = guests.map(({ socket, ...choice }) => ({
    name: String(choice.guestCid),
    labels: { guest_cid: String(choice.guestCid) },
    logFields: { guestCid: choice.guestCid },
    socketPath: socket,
    async open({ ownSockets }: OpenContext) {
      keepFrom(choice, ownSockets);
      return VsockDevice.open(choice, PATIENCE, neighbours);
    },
  }));
  return { first };
}
