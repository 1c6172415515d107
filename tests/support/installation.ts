// What npm would publish, and installations of it in directories of their own, made without a network: of its programs, and in
// a project of somebody's.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { PROGRAM } from "./vringd.ts";

export const ROOT = join(dirname(PROGRAM), "..");

/** koffi, and what it loads its native part from on this machine. */
export const KOFFI = ["koffi", `@koromix/koffi-linux-${process.arch}`];

/** A busy machine may take minutes. */
const NPM_TIMEOUT_MS = 400_000;

export interface Packed {
  path: string;
  size: number;
  mode: number;
}

export interface Listing {
  files: Packed[];
  size: number;
  unpackedSize: number;
}

export function listPackage(): Listing {
  return JSON.parse(npm(ROOT, "pack", "--dry-run", "--json", "--ignore-scripts"))[0];
}

/** As `npm install -g` leaves it. */
export class Installation {
  private constructor(readonly prefix: string) {}

  static make(): Installation {
    const prefix = mkdtempSync(join(tmpdir(), "vringd-install-"));
    try {
      install(prefix, "--global", "--prefix", prefix);
      return new Installation(prefix);
    } catch (error) {
      rmSync(prefix, { recursive: true });
      throw error;
    }
  }

  program(name: string): string {
    return join(this.prefix, "bin", name);
  }

  /** A file of our package. */
  path(...parts: string[]): string {
    return join(this.prefix, "lib/node_modules/vringd", ...parts);
  }

  remove(): void {
    rmSync(this.prefix, { recursive: true });
  }
}

/** As `npm install vringd` leaves an empty directory in which a program is to be written. */
export class Project {
  private constructor(readonly directory: string) {}

  static make(): Project {
    const directory = mkdtempSync(join(tmpdir(), "vringd-project-"));
    try {
      writeFileSync(join(directory, "package.json"), JSON.stringify({ private: true, type: "module" }));
      install(directory);
      return new Project(directory);
    } catch (error) {
      rmSync(directory, { recursive: true });
      throw error;
    }
  }

  path(...parts: string[]): string {
    return join(this.directory, ...parts);
  }

  remove(): void {
    rmSync(this.directory, { recursive: true });
  }
}

/** koffi is given, so that npm needs no registry for it. */
function install(directory: string, ...options: string[]): void {
  const packages = join(directory, "packages");
  mkdirSync(packages);
  const sources = [ROOT, ...KOFFI.map((name) => join(ROOT, "node_modules", name))];
  const tarballs = sources.map((source) => pack(source, packages));
  npm(directory, "install", ...options, "--offline", "--ignore-scripts", ...tarballs);
  rmSync(packages, { recursive: true });
}

function pack(source: string, directory: string): string {
  const [{ filename }] = JSON.parse(
    npm(source, "pack", "--json", "--ignore-scripts", "--pack-destination", directory),
  );
  return join(directory, filename);
}

function npm(cwd: string, ...args: string[]): string {
  return execFileSync("npm", args, {
    cwd,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    timeout: NPM_TIMEOUT_MS,
  });
}

/** A command that runs as nobody in particular, who may write nowhere: root's rights would hide what isn't there for others. */
export function unprivileged(): string[] {
  const command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
  const isPossible =
    process.getuid?.() === 0 && spawnSync(command[0]!, [...command.slice(1), "true"]).status === 0;
  return isPossible ? command : [];
}
