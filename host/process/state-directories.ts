// Where is kept what outlives a process: file-hierarchy(7).
import { mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

/** As systemd's StateDirectory= has it, or else by the user. The first is written to. */
export function stateDirectories(): string[] {
  const { STATE_DIRECTORY, XDG_STATE_HOME } = process.env;
  if (STATE_DIRECTORY) return STATE_DIRECTORY.split(":");
  if (process.getuid?.() === 0) return ["/var/lib/vringd"];
  return [join(XDG_STATE_HOME || join(homedir(), ".local", "state"), "vringd")];
}

/** A directory in one of them, made if it can be. */
export function makeStateDirectory(directory: string, name: string): string {
  const path = join(directory, name);
  for (const made of [dirname(directory), directory, path]) makeDirectory(made);
  return path;
}

/** Not by Node's recursive mkdir, which never ends where the kernel says of a new directory that it doesn't exist, as in /proc. */
function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch {
    // It is there already, or the file in it can't be written either.
  }
}
