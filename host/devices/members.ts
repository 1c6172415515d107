// What several devices of one process must not share.
import { resolve } from "node:path";
import type { Member, MemberWords } from "./program.ts";

/** Why these can't be served together: a sentence. */
export function whyNotTogether(
  members: readonly Member[],
  { one, many, most }: MemberWords,
): string | undefined {
  if (members.length > most)
    return `there are ${members.length} ${many}, and a process serves ${most} at the most: start another one`;
  const name = firstTwice(members.map((member) => member.name));
  if (name !== undefined) return `two ${many} are called ${name}: give each a name of its own`;
  const socket = firstTwice(members.map(({ socketPath }) => whole(socketPath)));
  if (socket !== undefined) return `two ${many} would be at ${socket}: give each ${one} a socket of its own`;
  return whySameUse(members, many);
}

function whySameUse(members: readonly Member[], many: string): string | undefined {
  const users = new Map<string, { name: string; isRead: boolean }>();
  for (const { name, uses = [] } of members)
    for (const { path, isRead } of uses) {
      const other = users.get(whole(path));
      if (other !== undefined && other.name !== name && !(isRead && other.isRead))
        return `${many} ${other.name} and ${name} would both have ${path}, which only those that don't write can share: take another file for one`;
      users.set(whole(path), { name, isRead: isRead && (other?.isRead ?? true) });
    }
  return undefined;
}

function firstTwice<T>(values: readonly T[]): T | undefined {
  const seen = new Set<T>();
  return values.find((value) => seen.size === seen.add(value).size);
}

/** Of an abstract name, itself. */
function whole(path: string): string {
  return path.startsWith("@") ? path : resolve(path);
}
