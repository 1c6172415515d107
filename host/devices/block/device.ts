// A disk (virtio 1.4, 5.2). The core takes its requests apart, and an engine of its storage serves them; this is what front-end
// and driver see of it.
import { resolve } from "node:path";
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import type { DiskFailure } from "../../engines/disk-failure.ts";
import { featureMask } from "../../protocol/feature-bits.ts";
import type { Disk } from "../../storage/disk.ts";
import type { DeviceFacts, QueueSpec } from "../device.ts";
import type { EngineDevice, EngineHost, WorkerChoice } from "../engine-device.ts";
import { CacheMode } from "./cache-mode.ts";
import { BlockConfig, blockFeatures, type QueueOptions } from "./config.ts";
import { clearFlushed, writeWriteThrough } from "./device-block.ts";
import { FailureLog } from "./failure-log.ts";
import { BLOCK_FEATURE_NAMES } from "./feature-names.ts";
import { BLOCK_KINDS } from "./kinds.ts";

const VIRTIO_ID_BLOCK = 2;

/**
 * VIRTIO_F_ANY_LAYOUT, from before virtio 1.0. QEMU offers it to guests by itself and passes on that they took it;
 * any layout is what the core takes anyway.
 */
const ANY_LAYOUT = featureMask([27]);

const REQUEST_QUEUE: QueueSpec = { name: "requestq", credit: "all", recover: "repeat" };

export class BlockDevice implements EngineDevice {
  readonly type = "block";
  readonly virtioId = VIRTIO_ID_BLOCK;
  readonly queues: readonly QueueSpec[];
  readonly features: bigint;
  readonly featureNames = BLOCK_FEATURE_NAMES;
  readonly ignoredFeatures = ANY_LAYOUT;
  readonly config: BlockConfig;
  readonly inflight = true;
  readonly kinds = BLOCK_KINDS;
  readonly workers: WorkerChoice;
  private readonly cache = new CacheMode();
  private failures: FailureLog | undefined;

  constructor(
    readonly storage: Disk,
    queues: QueueOptions,
    workers: WorkerChoice,
  ) {
    this.queues = Array.from({ length: queues.queueCount }, () => REQUEST_QUEUE);
    this.features = blockFeatures(storage);
    this.config = new BlockConfig(storage, queues, this.cache);
    // An object belongs to the thread that it was given in.
    this.workers = storage.object ? { ...workers, threads: 1 } : workers;
  }

  get facts(): DeviceFacts {
    return factsOf(this.storage);
  }

  attach({ memory, log }: EngineHost): void {
    const { path, overlay } = this.storage;
    this.failures = new FailureLog(log, { file: path, ...(overlay && { overlay }) });
    const target = {
      write: (mode: number) => writeWriteThrough(memory, mode),
      forgetFlush: () => clearFlushed(memory),
    };
    this.cache.attach(target, log);
  }

  connected(): void {
    this.cache.begin();
  }

  negotiated(features: bigint): void {
    this.cache.negotiate(features);
  }

  inherited(): void {
    this.cache.inherit();
  }

  ringsRun(count: number): void {
    this.cache.ringsRun(count);
  }

  requestFailed(failure: DiskFailure): void {
    this.failures?.add(failure);
  }

  async close(): Promise<void> {
    this.failures?.close();
    await this.storage.close();
  }
}

function factsOf({ path, capacitySectors, blockSize, readOnly, directMask }: Disk): DeviceFacts {
  const sizeBytes = Number(capacitySectors) * SECTOR_SIZE;
  return {
    log: { file: path, sectors: String(capacitySectors) },
    status: {
      disk: { path: resolve(path), sizeBytes, blockSizeBytes: blockSize, readOnly, direct: directMask !== 0 },
    },
    labels: { disk: path },
    gauges: [
      { name: "size_bytes", help: "Size of the disk.", value: sizeBytes },
      { name: "read_only", help: "Whether the disk is read-only.", value: Number(readOnly) },
    ],
  };
}
