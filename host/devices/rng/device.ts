// Random numbers for guests (virtio 1.4, 5.4): buffers are filled from a source, no faster than asked.
import { ByteSource } from "../../linux/byte-source.ts";
import { type Log, SILENT } from "../../process/log.ts";
import { Quota } from "../../process/quota.ts";
import type { Chain, DeviceHost, DeviceQueue, QueueSpec, VirtioDevice } from "../device.ts";
import type { RngValues } from "./options.ts";

/** A request may get less than it has room for (5.4.6.2). */
const REQUEST_BYTES_MAX = 65536;

export class RngDevice implements VirtioDevice {
  readonly type = "rng";
  readonly virtioId = 4;
  readonly queues: readonly QueueSpec[] = [{ name: "requestq", credit: "all", recover: "repeat" }];
  readonly features = 0n;
  readonly migrates = true;
  readonly succession = {};
  private readonly source: ByteSource;
  private readonly quota: Quota;
  private log: Log = SILENT;
  private stopping = new AbortController();

  constructor(private readonly options: RngValues) {
    this.source = ByteSource.open(options.source);
    this.quota = new Quota(options.maxBytes ?? Number.POSITIVE_INFINITY, options.period);
  }

  attach({ log }: DeviceHost): void {
    this.log = log;
  }

  start(queue: DeviceQueue): void {
    this.stopping = new AbortController();
    const { signal } = this.stopping;
    queue.serve((chain) =>
      this.fill(chain, signal).catch((error) => {
        if (!signal.aborted) throw error;
        chain.park();
      }),
    );
  }

  stop(): void {
    this.stopping.abort();
  }

  close(): void {
    this.source.close();
  }

  /** No answer is to be empty (5.4.6.2): requests wait where the source has ended or fails, and those alone. */
  private async fill(chain: Chain, stopping: AbortSignal): Promise<void> {
    if (chain.out.left > 0) {
      const most = Math.min(chain.out.left, REQUEST_BYTES_MAX, await this.quota.next(stopping));
      const bytes = await this.source.some(most, stopping, (reason) =>
        this.log.warn({ source: this.options.source, reason }, "no more random bytes: requests wait"),
      );
      this.quota.spend(bytes.length);
      chain.out.bytes(bytes);
    }
    chain.use();
  }
}
