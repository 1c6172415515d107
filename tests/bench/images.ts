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

  /** The same content for all, and no zeroes, which a file system might leave out. */
  image(place: Place, name: string): string {
    const path = join(this.directory(place), `${name}.img`);
    if (this.made.has(path)) return path;
    const chunk = Buffer.alloc(CHUNK, "vringd bench ");
    const fd = openSync(path, "wx");
    try {
      for (let at = 0; at < this.byteLength; at += CHUNK) writeSync(fd, chunk);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    this.made.add(path);
    return path;
  }

  remove(): void {
    for (const directory of this.directories.values()) rmSync(directory, { recursive: true, force: true });
    this.directories.clear();
    this.made.clear();
  }
}
