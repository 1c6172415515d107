// Where control sockets lie that the toolbox finds by name.
import { mkdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

/** Names of control sockets end so: the toolbox asks no others by itself. */
export const CONTROL_ENDING = ".control";

/** Our own first, then the system's. */
export function controlDirectories({ XDG_RUNTIME_DIR: own } = process.env): string[] {
  return [...(own ? [join(own, "vringd")] : []), "/run/vringd"];
}

/**
 * Makes the directory of a control socket that would be found, if it is not there: /run is empty after each boot. Whoever may not
 * is told so by what opens the socket.
 */
export function makeControlDirectory(socketPath: string): void {
  const directory = dirname(resolve(socketPath));
  if (!controlDirectories().includes(directory)) return;
  try {
    // Groups may be let in by the sockets' own modes.
    mkdirSync(directory, { mode: 0o755 });
  } catch {}
}
