// Where the control sockets of this machine's daemons are, and what their devices are called.
import { existsSync, lstatSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { CONTROL_ENDING, controlDirectories } from "../process/control-directories.ts";
import { filePath } from "../process/paths.ts";

/** All in these directories, and in those directly below them. Others are not asked: what a front-end connects to would take us for one. */
export function findControlSockets(directories = controlDirectories()): string[] {
  const below = directories.flatMap((directory) =>
    entriesOf(directory)
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => join(directory, name)),
  );
  return [...directories, ...below].flatMap((directory) =>
    entriesOf(directory)
      .filter((entry) => entry.isSocket() && entry.name.endsWith(CONTROL_ENDING))
      .map(({ name }) => join(directory, name))
      .sort(),
  );
}

/** The socket meant by a path, or by a device's name where it is one of those that are found. */
export function resolveControlSocket(pathOrName: string, directories = controlDirectories()): string {
  if (pathOrName.includes("/") || existsSync(pathOrName)) return pathOrName;
  return findControlSockets(directories).find((path) => deviceName(path) === pathOrName) ?? pathOrName;
}

export function deviceName(socketPath: string): string {
  return basename(socketPath, CONTROL_ENDING);
}

/** What to say where none was found. */
export function nothingFound(): string {
  const where = controlDirectories().join(" or ");
  return `no control socket in ${where}: start a daemon with --control-socket=NAME.control, or say where it is`;
}

/** Whether something else than a socket is there. */
export function isNoSocket(path: string): boolean {
  try {
    return !lstatSync(filePath(path)).isSocket();
  } catch {
    return false;
  }
}

function entriesOf(directory: string) {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    // Not there, or not for us to read: then none of ours are in it.
    return [];
  }
}
