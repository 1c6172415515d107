// Where description files lie (the text of VhostUserBackend in vhost-user.json).
import { homedir } from "node:os";
import { delimiter, isAbsolute, join } from "node:path";

const BELOW = "qemu/vhost-user";

/** For sysadmins' local additions. */
export const SYSTEM_DIRECTORY = join("/etc", BELOW);

type Environment = Readonly<Record<string, string | undefined>>;

/** From general to specific. */
export function searchDirectories(environment: Environment = process.env): string[] {
  return [...dataDirectories(environment), SYSTEM_DIRECTORY, userDirectory(environment)];
}

/** For the user's local additions. */
export function userDirectory({ XDG_CONFIG_HOME, HOME }: Environment = process.env): string {
  return join(absolute(XDG_CONFIG_HOME) ?? join(absolute(HOME) ?? homedir(), ".config"), BELOW);
}

/** XDG_DATA_DIRS has the most important first. */
function dataDirectories({ XDG_DATA_DIRS }: Environment): string[] {
  const named = (XDG_DATA_DIRS ?? "").split(delimiter).filter(isAbsolute).reverse();
  const directories = named.length === 0 ? ["/usr/share"] : named;
  return [...new Set(directories.map((directory) => join(directory, BELOW)))];
}

/** "All paths set in these environment variables must be absolute", or are ignored (XDG Base Directory Specification). */
function absolute(path: string | undefined): string | undefined {
  return path !== undefined && isAbsolute(path) ? path : undefined;
}
