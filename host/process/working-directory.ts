// A program that is started in a directory which has been deleted since.
import { isAbsolute } from "node:path";
import { StartError } from "../errors.ts";
import type { DaemonOptions } from "../programs/daemon.ts";

/**
 * Node can't start a thread in a directory that is gone, so another one takes its place, unless a path counts from it.
 * Asked once, Node remembers where it is, whatever becomes of the directory later.
 */
export function leaveDeletedDirectory(options: DaemonOptions): void {
  try {
    process.cwd();
  } catch {
    const relative = pathsOf(options).find((path) => !isAbsolute(path));
    if (relative !== undefined)
      throw new StartError(
        `${relative} is no path from here: the working directory is gone; give whole paths`,
      );
    process.chdir("/");
  }
}

function pathsOf({ entrance, disk, observability }: DaemonOptions): string[] {
  const { controlSocket, metrics } = observability;
  const sockets = [
    "socketPath" in entrance ? entrance.socketPath : undefined,
    "connect" in entrance ? entrance.connect : undefined,
    controlSocket,
    metrics && "path" in metrics ? metrics.path : undefined,
  ].filter((path) => path !== undefined && !path.startsWith("@"));
  // Neither a URI nor a disk in memory is a path.
  const files = [disk.path, disk.overlay].filter((path) => path !== undefined && !/^[a-z+]+:/.test(path));
  return [...sockets, ...files] as string[];
}
