// The files that front-ends have sent, each kept under one name: a manager keeps an open file once, whatever further names it is sent by, and
// front-ends send the same one again and again, such as a memory file for each of its regions.
import { isSameOpenFile } from "../../linux/open-file.ts";
import { fileName } from "./names.ts";

/** Where they are kept. What returns false has not been done: there was no room, now. */
export interface FileStore {
  keep(name: string, fd: number): boolean;
  /** Sooner or later, and before anything else is kept. */
  drop(name: string): void;
}

interface KeptFile {
  readonly name: string;
  /** Whose descriptor it is. */
  readonly owner: object;
}

export class KeptFiles {
  /** By descriptor. */
  private readonly all = new Map<number, KeptFile>();
  private nextNumber = 0;

  constructor(private readonly store: FileStore) {}

  nameOf(fd: number): string | undefined {
    return this.all.get(fd)?.name;
  }

  namesOf(owner: object): string[] {
    return [...this.all.values()].filter((kept) => kept.owner === owner).map(({ name }) => name);
  }

  /** What a predecessor has kept. */
  adopt(fd: number, name: string, owner: object): void {
    this.all.set(fd, { name, owner });
  }

  /** Further files have numbers from here on. */
  countFrom(number: number): void {
    this.nextNumber = number;
  }

  /** False: there was no room, now. */
  keep(fd: number, owner: object): boolean {
    if (this.all.has(fd)) return true;
    const name = this.sameAs(fd) ?? this.keepNew(fd);
    if (name !== undefined) this.all.set(fd, { name, owner });
    return name !== undefined;
  }

  /** Of this owner's, those that are not among these. */
  former(fds: readonly number[], owner: object): number[] {
    const current = new Set(fds);
    return [...this.all].filter(([fd, kept]) => kept.owner === owner && !current.has(fd)).map(([fd]) => fd);
  }

  /** The descriptor was closed, or its number is another file's by now. */
  closed(fd: number): void {
    const kept = this.all.get(fd);
    this.all.delete(fd);
    if (kept && ![...this.all.values()].some(({ name }) => name === kept.name)) this.store.drop(kept.name);
  }

  private sameAs(fd: number): string | undefined {
    for (const [other, { name }] of this.all) if (isSameOpenFile(other, fd)) return name;
    return undefined;
  }

  private keepNew(fd: number): string | undefined {
    const name = fileName(this.nextNumber);
    if (!this.store.keep(name, fd)) return undefined;
    this.nextNumber++;
    return name;
  }
}
