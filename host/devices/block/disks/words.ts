// What several disks are called, and how many of them one process serves.
import type { MemberWords } from "../../program.ts";

/** Each has a thread, of which so many end in 1.3 s on two processors: well within the time that a shutdown has. */
export const DISKS: MemberWords = { one: "disk", many: "disks", most: 64 };
