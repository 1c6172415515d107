// Keeps the state of front-ends, and their descriptors, with a service manager: whoever is started after this process has died goes on with
// the same connections (docs/operate.md, "Connections that outlive the process").
import type { KeptSession, SessionKeeper } from "../../backend/service-state.ts";
import type { DescriptorStore } from "../../linux/service-manager.ts";
import type { Log } from "../../process/log.ts";
import { KeptFiles } from "./kept-files.ts";
import { type KeptBy, KeptFrontEnd, type RecordHead } from "./kept-front-end.ts";
import { type FrontEndKey, stateName } from "./names.ts";
import type { StateRecord } from "./record.ts";

/** The manager has other things to read first. */
const RETRY_MS = 20;

/** Of a front-end that a predecessor has left: its record, and the names of its descriptors. */
export interface LeftParts {
  readonly record: StateRecord;
  readonly files: ReadonlyMap<number, string>;
}

export class Store implements KeptBy {
  isOn = false;
  readonly files = new KeptFiles(this);
  private readonly names = new Set<string>();
  private readonly keepers = new Set<KeptFrontEnd>();
  private readonly unsettled = new Set<KeptFrontEnd>();
  private undropped: string[] = [];
  private hasToldFull = false;
  private timer: NodeJS.Timeout | undefined;

  /** `most`: descriptors that the manager keeps. `left`: the names of those that it has kept for a predecessor. */
  constructor(
    private readonly manager: DescriptorStore,
    private readonly most: number,
    left: Iterable<string>,
    private readonly program: Pick<RecordHead, "program" | "release">,
    private readonly log: Log,
  ) {
    for (const name of left) this.names.add(name);
  }

  keeper(key: FrontEndKey, session: KeptSession, left?: LeftParts): SessionKeeper {
    const keeper = new KeptFrontEnd(this, stateName(key), session, this.program, left?.record);
    for (const [fd, name] of left?.files ?? []) this.files.adopt(fd, name, keeper);
    this.keepers.add(keeper);
    return keeper;
  }

  /** From here on what is said to this process is kept. */
  start(): void {
    this.isOn = true;
    for (const keeper of this.keepers) keeper.settle();
  }

  /** Nothing is kept any more: another process has all, or is to. */
  stop(): void {
    this.isOn = false;
    for (const keeper of this.keepers) keeper.letGo();
  }

  /** Of these, those that nobody has taken. */
  dropUnused(names: readonly string[]): void {
    const used = new Set([...this.keepers].flatMap((keeper) => keeper.names));
    for (const name of names) if (!used.has(name)) this.drop(name);
  }

  hasRoom(count: number): boolean {
    const isRoom = this.names.size + count <= this.most;
    if (!isRoom) this.tellFull();
    return isRoom;
  }

  keep(name: string, fd: number): boolean {
    if (this.undropped.length > 0 || !this.manager.keep(name, fd)) return false;
    this.names.add(name);
    return true;
  }

  drop(name: string): void {
    this.names.delete(name);
    this.undropped.push(name);
    this.flush();
  }

  retry(keeper: KeptFrontEnd): void {
    this.unsettled.add(keeper);
    this.wait();
  }

  forget(keeper: KeptFrontEnd): void {
    this.keepers.delete(keeper);
    this.unsettled.delete(keeper);
  }

  private flush(): void {
    const unsent = this.undropped.findIndex((name) => !this.manager.drop(name));
    this.undropped = unsent < 0 ? [] : this.undropped.slice(unsent);
    if (unsent >= 0) this.wait();
  }

  private wait(): void {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.flush();
      const keepers = [...this.unsettled];
      this.unsettled.clear();
      for (const keeper of keepers) keeper.settle();
    }, RETRY_MS);
  }

  private tellFull(): void {
    if (this.hasToldFull) return;
    this.hasToldFull = true;
    this.log.warn(
      { most: this.most },
      "the service manager keeps no more descriptors (FileDescriptorStoreMax=): a front-end would have to connect again if this process died",
    );
  }
}
