// A program that is started in a directory which has been deleted since.
import { isAbsolute } from "node:path";
import { StartError } from "../errors.ts";

/**
 * Node can't start a thread in a directory that is gone, so another one takes its place, unless a path counts from it.
 * Asked once, Node remembers where it is, whatever becomes of the directory later.
 */
export function leaveDeletedDirectory(names: readonly string[]): void {
  try {
    process.cwd();
  } catch {
    const relative = names.find((name) => isPath(name) && !isAbsolute(name));
    if (relative !== undefined)
      throw new StartError(
        `${relative} is no path from here: the working directory is gone; give whole paths`,
      );
    process.chdir("/");
  }
}

/** Neither an abstract name, a URI, a descriptor nor a disk in memory is a path. */
function isPath(name: string): boolean {
  return !name.startsWith("@") && !/^[a-z+]+:/.test(name);
}
