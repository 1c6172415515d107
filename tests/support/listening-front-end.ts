// A front-end that listens at a path, as QEMU does with server=on: the daemon comes to it.
import { setTimeout as sleep } from "node:timers/promises";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import { close } from "../../host/linux/libc.ts";
import { acceptUnix, listenUnix } from "../../host/linux/unix-socket.ts";
import { until } from "./until.ts";

export class ListeningFrontEnd {
  private readonly fd: number;

  constructor(path: string) {
    this.fd = listenUnix(path);
  }

  /** The daemon's next connection, negotiated. */
  async next(options: FrontEndOptions = {}): Promise<FrontEnd> {
    return FrontEnd.connect(await this.nextSocket(), options);
  }

  /** The same as a bare socket. */
  async nextSocket(): Promise<number> {
    const fd = await until(() => acceptUnix(this.fd) ?? false, "the daemon connects");
    return fd as number;
  }

  /** Whether it has come within the time. */
  async hasCome(waitMs: number): Promise<boolean> {
    await sleep(waitMs);
    const fd = acceptUnix(this.fd);
    if (fd !== undefined) close(fd);
    return fd !== undefined;
  }

  [Symbol.dispose](): void {
    close(this.fd);
  }
}
