// A daemon whose front-ends keep their connections when it is killed: a service manager keeps these, and what was said on them.
import manifest from "../../package.json" with { type: "json" };
import type { FrontEndLeft } from "../backend/service-state.ts";
import { type HandedDescriptor, handedDescriptors } from "../linux/handed-descriptors.ts";
import { canCompareOpenFiles } from "../linux/open-file.ts";
import type { DescriptorStore } from "../linux/service-manager.ts";
import type { Log } from "../process/log.ts";
import { closeLeft, Left } from "../upgrade/store/left.ts";
import { type FrontEndKey, LONE_DEVICE } from "../upgrade/store/names.ts";
import { Store } from "../upgrade/store/store.ts";
import type { Served } from "./served.ts";

/** How many descriptors the service manager keeps. systemd says so since release 254; for former ones the unit does. */
const MOST = "FDSTORE";

export class Keeping {
  private readonly store: Store;
  private isKeeping = false;

  constructor(
    private readonly program: string,
    manager: DescriptorStore,
    private readonly most: number,
    private readonly left: Left,
    private readonly log: Log,
  ) {
    this.store = new Store(manager, most, left.names, { program, release: manifest.version }, log);
    this.store.files.countFrom(left.nextNumber);
  }

  /** Goes on with whom a process that has died has left. From here on all is kept. */
  async comeBack(served: readonly Served[]): Promise<void> {
    this.keepAll(served);
    const front = this.left.keys.map((key) => ({ key, front: this.read(key, served) }));
    for (const each of served) {
      const own = front.filter(({ key }) => key.device === nameOf(each));
      await each.service.comeBack(own.flatMap(({ front }) => front ?? []));
    }
    this.left.close();
    this.store.dropUnused(this.left.names);
    this.store.start();
  }

  /** Once a predecessor that has handed over its front-ends has ended. */
  succeed(served: readonly Served[]): void {
    this.keepAll(served);
    this.store.start();
  }

  /** One that serves from here on. */
  add(served: Served): void {
    if (this.isKeeping) this.keep(served);
  }

  start(): void {
    this.store.start();
  }

  stop(): void {
    this.store.stop();
  }

  private keepAll(served: readonly Served[]): void {
    if (this.most === 0) return;
    this.isKeeping = true;
    for (const each of served) this.keep(each);
  }

  private keep(served: Served): void {
    const device = nameOf(served);
    served.service.backend.keep((frontEnd, session) => this.store.keeper({ device, frontEnd }, session));
  }

  private read(key: FrontEndKey, served: readonly Served[]): FrontEndLeft | undefined {
    const own = served.find((each) => nameOf(each) === key.device);
    const log = own?.log ?? this.log;
    const { frontEnd } = key;
    const refuse = (reason: string) => log.warn({ reason, frontEnd }, CLOSED);
    try {
      if (this.most === 0) throw new RangeError("this process keeps none");
      if (own === undefined) throw new RangeError("its device is served no more");
      const { state, ...parts } = this.left.read(key, this.program);
      return {
        number: frontEnd,
        session: state,
        keep: (session) => {
          log.info({ frontEnd }, "front-end goes on that a process which has died has served");
          return this.store.keeper(key, session, parts);
        },
        refuse: (reason, isTaken) => {
          if (isTaken) parts.record.close();
          else closeLeft(parts);
          refuse(reason);
        },
      };
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      refuse(error.message);
      return undefined;
    }
  }
}

function nameOf({ member }: Served): string {
  return member?.name ?? LONE_DEVICE;
}

const CLOSED = "the connection of a front-end is closed that a process which has died has served";

/** Undefined where nobody keeps anything and nothing was left. `isWanted`: whether this process is to have anything kept. */
export function openKeeping(
  program: string,
  manager: DescriptorStore,
  isWanted: boolean,
  log: Log,
  handed: readonly HandedDescriptor[] = handedDescriptors(),
): Keeping | undefined {
  const { [MOST]: most = "", NOTIFY_SOCKET } = process.env;
  const left = new Left(handed);
  const isKept = NOTIFY_SOCKET !== undefined && /^\d{1,9}$/.test(most);
  const count = isWanted && isKept && canCompareOpenFiles() ? Number(most) : 0;
  if (count === 0 && left.names.length === 0) return undefined;
  return new Keeping(program, manager, count, left, log);
}
