// A service manager that starts daemons by a socket that listens, and keeps descriptors for them, as systemd does (sd_notify(3), FDSTORE=1;
// sd_listen_fds(3)).
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { close } from "../../host/linux/libc.ts";
import { isSameOpenFile } from "../../host/linux/open-file.ts";
import { whenReadable } from "../../host/linux/readiness.ts";
import { listenUnix } from "../../host/linux/unix-socket.ts";
import { StateRecord } from "../../host/upgrade/store/record.ts";
import { type Heard, Manager } from "./service-manager.ts";
import { until } from "./until.ts";

const MOST = 512;

/** What a process is started with. */
export interface HandedDown {
  /** From 3 on. */
  readonly fds: readonly number[];
  readonly env: Readonly<Record<string, string>>;
}

/** Becomes the command that follows, which is told by its own process id that the descriptors are for it. */
export const AS_LISTENER = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"];

export class DescriptorKeeper {
  /** Where front-ends come in. */
  readonly path: string;
  /** By name. */
  readonly kept = new Map<string, number>();
  private readonly directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  private readonly manager: Manager;
  private readonly listening: number;
  private readonly watch: { stop(): void };

  constructor(private readonly most = MOST) {
    this.path = join(this.directory, "front-end.sock");
    this.listening = listenUnix(this.path);
    this.manager = new Manager(join(this.directory, "notify"), (heard) => this.take(heard));
    this.watch = whenReadable(this.manager.fd, () => void this.manager.all());
  }

  /** To a process that is about to start. What its predecessor has said before it died was heard. */
  handedDown(): HandedDown {
    this.manager.all();
    const names = ["listening.socket", ...this.kept.keys()];
    const env = {
      NOTIFY_SOCKET: join(this.directory, "notify"),
      FDSTORE: String(this.most),
      LISTEN_FDS: String(names.length),
      LISTEN_FDNAMES: names.join(":"),
    };
    return { fds: [this.listening, ...this.kept.values()], env };
  }

  /** Resolves when the first front-end's state says that nothing is being read: whoever comes next could go on. */
  async isSettled(): Promise<void> {
    await until(
      () => this.names.some((name) => /^vringd\..*\.state$/.test(name) && this.isGood(name)),
      "a state is kept",
    );
  }

  /** Everything that was said so far is done. */
  get names(): string[] {
    this.manager.all();
    return [...this.kept.keys()];
  }

  /** From here on it is not kept. */
  lose(name: string): void {
    const fd = this.kept.get(name);
    if (fd !== undefined) close(fd);
    this.kept.delete(name);
  }

  close(): void {
    this.watch.stop();
    for (const fd of this.kept.values()) close(fd);
    close(this.listening);
    this.manager.close();
    rmSync(this.directory, { recursive: true });
  }

  /** Whether whoever comes next could go by this state. */
  isGood(name: string): boolean {
    try {
      return StateRecord.of(this.kept.get(name)!).read() !== "";
    } catch {
      return false;
    }
  }

  private take({ text, fds }: Heard): void {
    const said = new Map(text.split("\n").map((line) => line.split("=") as [string, string]));
    const name = said.get("FDNAME") ?? "stored";
    if (said.get("FDSTOREREMOVE") === "1") this.lose(name);
    for (const fd of fds) {
      if (said.get("FDSTORE") !== "1" || this.kept.size >= this.most || this.has(fd)) close(fd);
      else this.kept.set(name, fd);
    }
  }

  /** Under whichever name. */
  private has(fd: number): boolean {
    return [...this.kept.values()].some((each) => isSameOpenFile(each, fd));
  }
}
