// A copy of the disk as it is when it is asked for, while the guest goes on: one at a time.
import { existsSync } from "node:fs";
import { reasonOf } from "../../errors.ts";
import { filePath } from "../../process/paths.ts";
import type { Copy, Copying } from "../../storage/backup/copying.ts";
import type { BackupStatus } from "../../storage/backup/status.ts";
import { makeFile } from "../../storage/new-file.ts";
import type { Storage } from "../../storage/storage.ts";
import { Interrupted } from "../../storage/work.ts";
import type { EngineHost } from "../engine-device.ts";
import type { DiskHold, DiskSize } from "./disk-size.ts";

type BackupHost = Pick<EngineHost, "log" | "whileStopped">;

export class DiskBackup {
  private host: BackupHost | undefined;
  private last: BackupStatus | undefined;
  /** Of the disk, for the copy; never rejects. */
  private reading: Promise<void> = Promise.resolve();
  private stopping = new AbortController();
  private ended: Promise<void> = Promise.resolve();

  constructor(
    private readonly storage: Pick<Storage, "facts" | "copying">,
    private readonly size: Pick<DiskSize, "byteLength">,
    private readonly hold: Pick<DiskHold, "isActive"> | undefined,
  ) {}

  attach(host: BackupHost): void {
    this.host = host;
  }

  get isRunning(): boolean {
    return this.last?.state === "running";
  }

  /** Of the one that runs, or ran last. */
  get status(): BackupStatus | undefined {
    return this.last;
  }

  /** Resolves once the moment of the copy has come, and the guest goes on. Rejects with a RangeError if there will be none. */
  async start(file: string): Promise<void> {
    const { copying, facts } = this.storage;
    if (this.isRunning) throw new RangeError(`a backup is being made already, in ${this.last!.file}`);
    if (typeof copying === "string") throw new RangeError(`${facts.name} ${copying}`);
    if (this.hold?.isActive === false) throw new RangeError(`${facts.name} is another process's now`);
    if (existsSync(filePath(file))) throw new RangeError(`${file} is there already; name another file`);
    const totalBytes = Number(this.size.byteLength);
    this.last = { file, state: "running", copiedBytes: 0, totalBytes, pauseMs: 0 };
    this.stopping = new AbortController();
    await new Promise<void>((begun, refused) => {
      this.ended = this.make(file, copying, begun).then(
        () => this.finish({ state: "done", copiedBytes: totalBytes }),
        (error: unknown) => {
          this.finish(failureOf(error));
          // After it has begun nobody hears of that: whoever asks for the status does.
          refused(
            error instanceof RangeError ? error : new RangeError(`can't make ${file}: ${reasonOf(error)}`),
          );
        },
      );
    });
  }

  /** Resolves once it has ended, with nothing left behind. */
  async cancel(): Promise<void> {
    this.stopping.abort();
    await this.ended;
  }

  /**
   * The disk is read no more when it resolves. It doesn't wait for the moment of a copy that is yet to come, which may itself wait
   * for whoever asks.
   */
  async leave(): Promise<void> {
    this.stopping.abort();
    await this.reading;
  }

  private async make(file: string, copying: Copying, begun: () => void): Promise<void> {
    const { signal } = this.stopping;
    await copying.prepare?.();
    await makeFile(file, async (handle) => {
      await handle.truncate(this.last!.totalBytes);
      let copy: Copy | undefined;
      const startMs = performance.now();
      try {
        await this.host!.whileStopped(async () => {
          if (signal.aborted) throw new Interrupted();
          copy = copying.begin(handle.fd, this.last!.totalBytes);
        });
        this.update({ pauseMs: Math.round((performance.now() - startMs) * 10) / 10 });
        begun();
        const copied = copy!.run({ progress: (copiedBytes) => this.update({ copiedBytes }), signal });
        this.reading = copied.catch(() => {});
        await copied;
      } finally {
        copy?.end();
      }
    });
  }

  private update(change: Partial<BackupStatus>): void {
    this.last = { ...this.last!, ...change };
  }

  private finish(change: Partial<BackupStatus>): void {
    this.update(change);
    const { state, file, reason, pauseMs } = this.last!;
    const fields = { file, pauseMs, ...(reason !== undefined && { reason }) };
    if (state === "failed") this.host!.log.warn(fields, "a backup of the disk has failed");
    else
      this.host!.log.info(
        fields,
        state === "done" ? "a backup of the disk is made" : "a backup is cancelled",
      );
  }
}

function failureOf(error: unknown): Partial<BackupStatus> {
  if (error instanceof Interrupted) return { state: "cancelled" };
  return { state: "failed", reason: reasonOf(error) };
}
