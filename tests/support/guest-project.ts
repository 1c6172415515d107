// The project as it was built, on a disk for a guest that runs a part of it.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { sharedLibraries } from "./guest-image.ts";
import { findProgram } from "./skip.ts";
import { ROOT } from "./sources.ts";
import { PROGRAM } from "./vringd.ts";

const SIZE_MIB = 64;

/** What else is in an image: files of this machine, and where each lies there. */
export interface ImageExtras {
  readonly files: readonly (readonly [from: string, to: string])[];
  /** What these need of other libraries lies in libraries/. */
  readonly libraries: readonly (readonly [from: string, to: string])[];
  readonly sizeMiB: number;
}

const NOTHING_ELSE: ImageExtras = { files: [], libraries: [], sizeMiB: SIZE_MIB };

/** Makes an ext4 image at `path`: build/, with those of our tests' programs that are named, and what they load of node_modules. */
export function makeProjectImage(
  path: string,
  testPrograms: readonly string[],
  { files, libraries, sizeMiB }: ImageExtras = NOTHING_ELSE,
): void {
  const build = dirname(PROGRAM);
  const directory = mkdtempSync(join(tmpdir(), "vringd-project-"));
  try {
    copy(build, join(directory, "build"), (name) => /\.(mjs|wasm)$/.test(name));
    // What bundles share, or load later, lies beside them, with a sum of what is in it at the end of its name.
    const wanted = (name: string) =>
      /-[A-Z0-9]{8}\.mjs$/.test(name) || testPrograms.some((program) => name === `${program}.mjs`);
    copy(join(build, "tests"), join(directory, "build/tests"), wanted);
    // By which the package finds itself.
    cpSync(join(ROOT, "package.json"), join(directory, "package.json"));
    for (const name of ["koffi", "@koromix"])
      cpSync(join(ROOT, "node_modules", name), join(directory, "node_modules", name), { recursive: true });
    const needed = libraries.flatMap(([from]) => sharedLibraries(from));
    const beside = [...new Set(needed)].map((from) => [from, `libraries/${basename(from)}`] as const);
    for (const [from, to] of [...files, ...beside, ...libraries])
      cpSync(realpathSync(from), join(directory, to), { recursive: true });
    execFileSync(findProgram("mkfs.ext4")!, ["-q", "-F", "-d", directory, path, `${sizeMiB}M`]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function copy(from: string, to: string, isWanted: (name: string) => boolean): void {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from).filter(isWanted)) cpSync(join(from, name), join(to, name));
}
