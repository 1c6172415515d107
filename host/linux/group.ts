// Groups by name, wherever the system keeps them (getgrnam(3)).
import koffi from "koffi";
import * as libc from "./libc.ts";

/** struct group: name char *, password char *, gid u32. */
const GID_OFFSET = 16;

/** Undefined if there is no such group. Digits are a group's number, which nobody has to know. */
export function groupNumber(nameOrNumber: string): number | undefined {
  if (/^\d+$/.test(nameOrNumber)) return Number(nameOrNumber);
  const group = libc.getgrnam(nameOrNumber);
  return group === null ? undefined : koffi.decode(group, GID_OFFSET, "uint32_t");
}
