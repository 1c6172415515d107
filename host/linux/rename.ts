// Giving a file its name without taking the name from another (renameat2(2)).
import { bytesOfText } from "../process/paths.ts";
import * as libc from "./libc.ts";

const SYS_renameat2 = 316;
const AT_FDCWD = -100;
const RENAME_NOREPLACE = 1;

/** Throws SystemError: EEXIST if the name is taken; EINVAL or ENOSYS where the file system, or the kernel, can't. */
export function renameWithoutReplacing(from: string, to: string): void {
  const names = [from, to].map((name) => Buffer.concat([bytesOfText(name), Buffer.alloc(1)]));
  const result = libc.renameat2(SYS_renameat2, AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_NOREPLACE);
  libc.checked("renameat2", result);
}
