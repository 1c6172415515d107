// Back-ends for tests: directories of description files, and programs that answer as they like.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export class BackendFiles implements Disposable {
  readonly root = mkdtempSync(join(tmpdir(), "vringd-backends-"));

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true, force: true });
  }

  path(...parts: string[]): string {
    return join(this.root, ...parts);
  }

  /** A file below our directory, with what is above it. Returns its path. */
  write(name: string, content: string | Uint8Array, mode = 0o644): string {
    const path = this.path(name);
    mkdirSync(join(path, ".."), { recursive: true });
    writeFileSync(path, content, { mode });
    return path;
  }

  /** A shell script as a back-end's program. */
  script(name: string, ...lines: string[]): string {
    return this.write(`bin/${name}`, ["#!/bin/sh", ...lines, ""].join("\n"), 0o755);
  }

  /** A program that answers --print-capabilities, and nothing else. */
  program(name: string, capabilities: unknown): string {
    const answer = JSON.stringify(capabilities);
    return this.script(name, '[ "$*" = --print-capabilities ] || exit 9', `echo '${answer}'`);
  }

  /** A description file, in a directory of ours, of such a program. */
  backend(path: string, type: string, features: string[] = []): string {
    const name = path.replaceAll("/", "-");
    return this.describe(path, type, this.program(name, { type, features }));
  }

  describe(path: string, type: string, binary: string): string {
    return this.write(path, JSON.stringify({ description: `the ${type} of ${path}`, type, binary }));
  }
}
