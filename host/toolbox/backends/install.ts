// `vringd backends install` and `uninstall`: the descriptions of our own back-ends.
import {
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { BackendDescription } from "../../../build/schemas.js";
import { STATUS_FAILED, UsageError } from "../../command-line/program.ts";
import { DEVICES } from "../../devices/index.ts";
import { askCapabilities } from "../../discovery/capabilities-query.ts";
import { readDescription } from "../../discovery/description.ts";
import { SYSTEM_DIRECTORY, userDirectory } from "../../discovery/directories.ts";
import { reasonOf } from "../../errors.ts";
import { ownProgram } from "../../process/own-files.ts";
import { complain, printable, printLines } from "../terminal.ts";

export interface PlaceOptions {
  user?: true;
  system?: true;
  directory?: string;
}

/** Where the description of a program goes in its directory. */
const fileName = (program: string) => `50-${program}.json`;

/** All but the program's path. */
type Template = Omit<BackendDescription, "binary">;

/** Generous: a program that doesn't answer must not be installed, and a busy machine is no reason. */
const TIMEOUT_MS = 10_000;

/** Others must be able to read what is for this machine, whatever our umask was. The user's own follows XDG. */
const UMASK = 0o022;
const FILE_MODE = 0o644;
const SYSTEM_DIRECTORY_MODE = 0o755;
const USER_DIRECTORY_MODE = 0o700;

export async function install(type: string, options: PlaceOptions & { force?: true }): Promise<number> {
  const { name: program } = await DEVICES[type]!();
  const path = join(placeOf(options), fileName(program));
  const template = templateOf(program, type);
  const description: BackendDescription = { ...template, binary: pathOf(program) };
  const { faults } = await askCapabilities(description, TIMEOUT_MS);
  if (faults.length > 0) return refuse(faults.join("; "));
  try {
    if (exists(path) && !isOurs(path, program, template) && !options.force) {
      return refuse(`${path} is not ours, or was edited; see what it is, and overwrite it with --force`);
    }
    process.umask(UMASK);
    const mode = options.system || options.directory ? SYSTEM_DIRECTORY_MODE : USER_DIRECTORY_MODE;
    mkdirSync(dirname(path), { recursive: true, mode });
    replace(path, `${JSON.stringify(description, undefined, 2)}\n`);
  } catch (error) {
    return refuse(`can't write ${path}: ${reasonOf(error)}`);
  }
  printLines([`wrote ${printable(path)}`, `for   ${printable(description.binary)}`]);
  return 0;
}

export async function uninstall(type: string, options: PlaceOptions): Promise<number> {
  const { name: program } = await DEVICES[type]!();
  const path = join(placeOf(options), fileName(program));
  const template = templateOf(program, type);
  try {
    if (!exists(path)) return refuse(`there is no ${path}`);
    if (!isOurs(path, program, template))
      return refuse(`${path} is not ours, or was edited; see what it is, and remove it yourself`);
    rmSync(path);
  } catch (error) {
    return refuse(`can't remove ${path}: ${reasonOf(error)}`);
  }
  printLines([`removed ${printable(path)}`]);
  return 0;
}

function placeOf({ user, system, directory }: PlaceOptions): string {
  if ([user, system, directory].filter((given) => given !== undefined).length > 1) {
    throw new UsageError("--user, --system and --directory exclude each other");
  }
  if (directory !== undefined) return resolve(directory);
  return system ? SYSTEM_DIRECTORY : userDirectory();
}

function templateOf(program: string, type: string): Template {
  return { description: program.replace("-", " vhost-user-"), type: type as Template["type"] };
}

/** The link in a directory of programs outlives an upgrade, so it is the better name if it leads to us. */
function pathOf(program: string): string {
  const bundle = ownProgram(program);
  const link = join(dirname(process.argv[1]!), program);
  return exists(link) && realpathSync(link) === bundle ? link : bundle;
}

/** As we write it, whatever the path of the program was. Edited, it is somebody's work. */
function isOurs(path: string, program: string, template: Template): boolean {
  const { value } = readDescription(path);
  // As npm links it, and as it lies in the package.
  const names = [program, `${program}.mjs`];
  if (value === undefined || !names.includes(basename(value.binary))) return false;
  return isDeepStrictEqual(value, { ...template, binary: value.binary });
}

/** At no time is there half a file: an empty one would hide others. */
function replace(path: string, text: string): void {
  // Searches pass over names that begin with a dot.
  const draft = join(dirname(path), `.${basename(path)}.${process.pid}`);
  const fd = openSync(draft, "wx", FILE_MODE);
  try {
    writeFileSync(fd, text);
    fsyncSync(fd);
    renameSync(draft, path);
  } catch (error) {
    rmSync(draft);
    throw error;
  } finally {
    closeSync(fd);
  }
}

function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function refuse(sentence: string): number {
  complain(sentence);
  return STATUS_FAILED;
}
