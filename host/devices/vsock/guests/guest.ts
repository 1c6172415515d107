// What is chosen for a guest, and what several of one process must not share.
import { resolve } from "node:path";
import { UsageError } from "../../../options/option.ts";

export const DEFAULT_GROUP = "default";
/** Each takes 4 GiB of addresses, and a listening socket. */
export const GUESTS_MAX = 32;
export const GROUPS_MAX = 16;

export interface GuestChoice {
  readonly guestCid: number;
  /** Left out: the host has no Unix sockets of the guest's. */
  readonly udsPath?: string | undefined;
  readonly maxConnections: number;
  /** Guests of one process that have one in common reach each other. */
  readonly groups?: readonly string[] | undefined;
  readonly forwardCid?: number | undefined;
  readonly forwardListen?: readonly number[] | undefined;
}

/** One of several guests. */
export interface GuestOfMany extends GuestChoice {
  /** Where its front-end connects. */
  readonly socket: string;
}

/** How many connections each may have is its own affair. */
type Neighbour = Omit<GuestOfMany, "maxConnections">;

/** Throws UsageError where a guest could call a socket of this process itself, such as the one that commands it. */
export function keepFrom(guest: Pick<GuestChoice, "udsPath">, ownSockets: readonly string[]): void {
  for (const path of ownSockets) {
    const why = whyOwnSocket(guest, path);
    if (why !== undefined) throw new UsageError(why);
  }
}

/** Why these guests can't be served, together or each for itself: a sentence. */
export function whyNotTogether(guests: readonly Neighbour[]): string | undefined {
  if (guests.length > GUESTS_MAX)
    return `there are ${guests.length} guests, and a process serves ${GUESTS_MAX} at the most: start another one`;
  return whySameCid(guests) ?? whySamePath(guests) ?? whyForwarded(guests);
}

/**
 * A guest names by its port whom it connects to at the host: where a socket of ours has a name of that kind, it would be a front-end
 * there, or command us.
 */
function whyOwnSocket({ udsPath }: Pick<GuestChoice, "udsPath">, path: string): string | undefined {
  if (udsPath === undefined) return undefined;
  const rest = whole(path).startsWith(`${whole(udsPath)}_`) ? whole(path).slice(whole(udsPath).length) : "";
  if (!/^_\d+$/.test(rest)) return undefined;
  return `${path} is where a guest's calls to port ${rest.slice(1)} go, since ${udsPath} is its Unix socket: choose another path`;
}

function whySameCid(guests: readonly Neighbour[]): string | undefined {
  const twice = firstTwice(guests.map(({ guestCid }) => guestCid));
  return twice === undefined ? undefined : `two guests have the CID ${twice}: give each one of its own`;
}

function whySamePath(guests: readonly Neighbour[]): string | undefined {
  const paths = guests.flatMap(({ socket, udsPath }) => [
    socket,
    ...(udsPath === undefined ? [] : [udsPath, `${udsPath}_seqpacket`]),
  ]);
  const twice = firstTwice(paths.map(whole));
  if (twice !== undefined) return `two sockets would be at ${twice}: give each a path of its own`;
  for (const guest of guests)
    for (const path of paths) {
      const why = whyOwnSocket(guest, path);
      if (why !== undefined) return why;
    }
  return undefined;
}

function whyForwarded(guests: readonly Neighbour[]): string | undefined {
  const port = firstTwice(guests.flatMap(({ forwardListen }) => forwardListen ?? []));
  if (port !== undefined) return `port ${port} of the host would be forwarded twice: leave one out`;
  const cids = new Set(guests.map(({ guestCid }) => guestCid));
  const taken = guests.find(({ forwardCid }) => forwardCid !== undefined && cids.has(forwardCid));
  if (taken === undefined) return undefined;
  const { guestCid, forwardCid } = taken;
  return `calls of guest ${guestCid} would be forwarded to CID ${forwardCid}, which another guest here has: choose another CID`;
}

function firstTwice<T>(values: readonly T[]): T | undefined {
  return values.find((value, at) => values.indexOf(value) !== at);
}

/** Of an abstract name, itself. */
function whole(path: string): string {
  return path.startsWith("@") ? path : resolve(path);
}
