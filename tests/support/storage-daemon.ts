// qemu-storage-daemon with one vhost-user-blk export: a back-end to try the front-end on, and to compare with.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";

const PROGRAM = "qemu-storage-daemon";

/** Undefined where there is no such program. */
export function storageDaemonVersion(program = PROGRAM): string | undefined {
  const { status, stdout } = spawnSync(program, ["--version"], { encoding: "utf8" });
  return status === 0 ? /version (\S+)/.exec(stdout)?.[1] : undefined;
}

export interface StorageDaemonOptions {
  /** Left out: there is a `blockdev`. */
  image?: string;
  /** Another block driver than that of files, as --blockdev takes it. */
  blockdev?: string;
  /** What the driver refers to, as --object takes it. */
  objects?: readonly string[];
  socketPath: string;
  queues?: number;
  /** Options of the block driver, such as "aio=io_uring,cache.direct=on". */
  driverOptions?: string;
  /** Whether the export has a thread of its own, as it should where speed counts. */
  hasIothread?: boolean;
}

export function storageDaemonArgs(options: StorageDaemonOptions): string[] {
  const {
    image,
    blockdev,
    objects = [],
    socketPath,
    queues = 2,
    driverOptions,
    hasIothread = false,
  } = options;
  const driver = blockdev ?? `driver=file,filename=${image}`;
  const file = `${driver},node-name=d${driverOptions ? `,${driverOptions}` : ""}`;
  const socket = `addr.type=unix,addr.path=${socketPath}`;
  const disk = `type=vhost-user-blk,id=e,node-name=d,writable=on,num-queues=${queues},${socket}`;
  const all = hasIothread ? [...objects, "iothread,id=iot0"] : objects;
  const before = all.flatMap((object) => ["--object", object]);
  return [...before, "--blockdev", file, "--export", hasIothread ? `${disk},iothread=iot0` : disk];
}

export class StorageDaemon {
  private constructor(private readonly child: ChildProcess) {}

  /** It may not listen yet: connecting waits for that. */
  static start(options: StorageDaemonOptions): StorageDaemon {
    const child = spawn(PROGRAM, storageDaemonArgs(options), { stdio: "inherit" });
    return new StorageDaemon(child);
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill("SIGTERM");
    await once(this.child, "exit");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
