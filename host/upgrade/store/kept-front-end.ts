// One front-end's state in a store: the files that it has sent, and a record that says what they are.
//
// The record is good while nothing is read from the front-end. It is not while files are dropped that it may name.
import type { KeptSession, SessionKeeper } from "../../backend/service-state.ts";
import { encodeDocument } from "../document.ts";
import type { FileStore, KeptFiles } from "./kept-files.ts";
import { StateRecord } from "./record.ts";

export interface KeptBy extends FileStore {
  /** Whether anything is to be kept now. */
  readonly isOn: boolean;
  readonly files: KeptFiles;
  /** Whether so many more can be kept. */
  hasRoom(count: number): boolean;
  /** Calls settle() again. */
  retry(keeper: KeptFrontEnd): void;
  forget(keeper: KeptFrontEnd): void;
}

/** The program that has written it, what else holds for all of it, and the names of its files, in the order of the document's. */
export interface RecordHead {
  readonly program: string;
  readonly release: string;
  readonly savedAtMs: number;
  readonly names: readonly string[];
}

export class KeptFrontEnd implements SessionKeeper {
  private hasChanged = true;
  private isWaiting = false;

  /** `record`: as a predecessor has left it. */
  constructor(
    private readonly store: KeptBy,
    private readonly name: string,
    private readonly session: KeptSession,
    private readonly head: Pick<RecordHead, "program" | "release">,
    private record?: StateRecord,
  ) {}

  /** Under which anything is kept. */
  get names(): string[] {
    return [...(this.record ? [this.name] : []), ...this.store.files.namesOf(this)];
  }

  reading(): void {
    this.isWaiting = false;
    this.record?.markReading(true);
  }

  waiting(): void {
    this.isWaiting = true;
    this.settle();
  }

  came(fds: readonly number[]): void {
    this.hasChanged = true;
    for (const fd of fds) this.store.files.closed(fd);
  }

  changed(): void {
    this.hasChanged = true;
    // All that changes with it comes first.
    setImmediate(() => this.settle());
  }

  end(): void {
    this.isWaiting = false;
    this.letGo();
    this.store.forget(this);
  }

  /** Has the store say what is so, if nothing is being read. */
  settle(): void {
    if (!this.isWaiting || !this.store.isOn) return;
    if (this.hasChanged && !this.save()) this.store.retry(this);
    else this.record?.markReading(false);
  }

  /** Nothing of it is kept any more. */
  letGo(): void {
    this.hasChanged = true;
    this.dropFormer([]);
    if (this.record === undefined) return;
    this.record.close();
    this.record = undefined;
    this.store.drop(this.name);
  }

  /** False if there was no room. */
  private save(): boolean {
    const { session, store } = this;
    if (!session.outlivesProcess) return this.saveNothing();
    const { text, fds } = encodeDocument(session.save());
    this.dropFormer(fds);
    const more = fds.filter((fd) => store.files.nameOf(fd) === undefined).length + (this.record ? 0 : 1);
    if (!store.hasRoom(more)) return this.saveNothing();
    if (!fds.every((fd) => store.files.keep(fd, this)) || !this.keepRecord()) return false;
    const names = fds.map((fd) => store.files.nameOf(fd)!);
    const head: RecordHead = { ...this.head, savedAtMs: Date.now(), names };
    this.record!.write(`${JSON.stringify(head)}\n${text}`);
    this.hasChanged = false;
    return true;
  }

  /** Whoever comes next could not go on, and this front-end has to connect again then. */
  private saveNothing(): true {
    this.letGo();
    this.hasChanged = false;
    return true;
  }

  private dropFormer(fds: readonly number[]): void {
    const former = this.store.files.former(fds, this);
    if (former.length > 0) this.record?.markReading(true);
    for (const fd of former) this.store.files.closed(fd);
  }

  private keepRecord(): boolean {
    if (this.record) return true;
    const record = StateRecord.create();
    const isKept = this.store.keep(this.name, record.fd);
    if (isKept) this.record = record;
    else record.close();
    return isKept;
  }
}
