// Disk images to measure on: fully allocated, one for each back-end, removed at the end.
import { closeSync, fsyncSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";

export const PLACES = { tmpfs: "/dev/shm", disk: "/var/tmp" } as const;
export type Place = keyof typeof PLACES;

const CHUNK = 1 << 20;

export class Images {
  private readonly directories = new Map<Place, string>();
  private readonly made = new Set<string>();

  constructor(readonly byteLength: number) {
    process.on("exit", () => this.remove());
  }

  /** Where sockets lie too. */
  directory(place: Place): string {
    let directory = this.directories.get(place);
    if (directory === undefined) {
      mkdirSync(PLACES[place], { recursive: true });
      directory = mkdtempSync(join(PLACES[place], `vringd-bench-${process.pid}-`));
      this.directories.set(place, directory);
    }
    return directory;
  }

  /**
   * Those of these that are not there yet, written together piece by piece: the machine's memory is not equally fast everywhere, and an
   * image of its own would be in one place. The same content for all, and no zeroes, which a file system might leave out.
   */
  make(place: Place, names: readonly string[]): void {
    const paths = names.map((name) => this.pathOf(place, name)).filter((path) => !this.made.has(path));
    const chunk = Buffer.alloc(CHUNK, "vringd bench ");
    const fds = paths.map((path) => openSync(path, "wx"));
    try {
      for (let at = 0; at < this.byteLength; at += CHUNK) for (const fd of fds) writeSync(fd, chunk);
      for (const fd of fds) fsyncSync(fd);
    } finally {
      for (const fd of fds) closeSync(fd);
    }
    for (const path of paths) this.made.add(path);
  }

  image(place: Place, name: string): string {
    this.make(place, [name]);
    return this.pathOf(place, name);
  }

  private pathOf(place: Place, name: string): string {
    return join(this.directory(place), `${name}.img`);
  }

  remove(): void {
    for (const directory of this.directories.values()) rmSync(directory, { recursive: true, force: true });
    this.directories.clear();
    this.made.clear();
  }
}
