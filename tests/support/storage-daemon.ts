// qemu-storage-daemon with one vhost-user-blk export: a back-end to try the front-end on, and to compare with.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";

export function hasStorageDaemon(): boolean {
  return spawnSync("qemu-storage-daemon", ["--version"]).status === 0;
}

export interface StorageDaemonOptions {
  image: string;
  socketPath: string;
  queues?: number;
  /** Options of the block driver, such as "aio=io_uring,cache.direct=on". */
  driverOptions?: string;
}

export class StorageDaemon {
  private constructor(private readonly child: ChildProcess) {}

  /** It may not listen yet: connecting waits for that. */
  static start({ image, socketPath, queues = 2, driverOptions }: StorageDaemonOptions): StorageDaemon {
    const file = `driver=file,node-name=d,filename=${image}${driverOptions ? `,${driverOptions}` : ""}`;
    const socket = `addr.type=unix,addr.path=${socketPath}`;
    const disk = `type=vhost-user-blk,id=e,node-name=d,writable=on,num-queues=${queues},${socket}`;
    const child = spawn("qemu-storage-daemon", ["--blockdev", file, "--export", disk], { stdio: "inherit" });
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
