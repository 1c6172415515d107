// A disk (virtio 1.4, 5.2). The core takes its requests apart, and an engine of its storage serves them; this is what front-end
// and driver see of it.
import { resolve } from "node:path";
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import type { EngineRecipe } from "../../engines/recipe.ts";
import { workerCountFor } from "../../memory/worker-part.ts";
import { featureMask } from "../../protocol/feature-bits.ts";
import type { Storage, StorageEngines, StorageFacts } from "../../storage/storage.ts";
import type { DeviceFacts, QueueSpec } from "../device.ts";
import type { EngineDevice, EngineHost, EngineNews, WorkerChoice } from "../engine-device.ts";
import { CacheMode } from "./cache-mode.ts";
import { BlockConfig, blockFeatures, type QueueOptions } from "./config.ts";
import { clearFlushed, writeDeviceBlock, writeWriteThrough } from "./device-block.ts";
import { DiskWatch } from "./disk-watch.ts";
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
  private engines: StorageEngines | undefined;
  private watch: DiskWatch | undefined;

  constructor(
    private readonly storage: Storage,
    queues: QueueOptions,
    workers: WorkerChoice,
  ) {
    this.queues = Array.from({ length: queues.queueCount }, () => REQUEST_QUEUE);
    this.features = blockFeatures(storage.facts);
    this.config = new BlockConfig(storage.facts, queues, this.cache);
    const threads = storage.isLocal ? 1 : workerCountFor(workers.threads, queues.queueCount);
    this.workers = { ...workers, threads };
  }

  get facts(): DeviceFacts {
    return factsOf(this.storage.facts);
  }

  get hasOwnThreads(): boolean {
    return !this.storage.isLocal;
  }

  get news(): EngineNews {
    return this.watch!;
  }

  openEngines({ memory, log, requestFailed }: EngineHost): EngineRecipe {
    const { facts } = this.storage;
    const { threads: workerCount, engine } = this.workers;
    const watch = new DiskWatch(facts, log, requestFailed);
    const engines = this.storage.openEngines({
      memory,
      workerCount,
      engine,
      onFailure: (failure) => watch.failed(failure),
    });
    if (!engines.tellsFailures) watch.followCounts(memory, workerCount);
    writeDeviceBlock(memory, facts, engines.form);
    this.cache.attach(
      { write: (mode) => writeWriteThrough(memory, mode), forgetFlush: () => clearFlushed(memory) },
      log,
    );
    this.watch = watch;
    this.engines = engines;
    return engines.recipe;
  }

  closeEngines(): void {
    this.watch?.close();
    this.engines?.close();
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

  async close(): Promise<void> {
    await this.storage.close();
  }
}

function factsOf({ name, byteLength, blockSize, readOnly, direct }: StorageFacts): DeviceFacts {
  const sizeBytes = Number(byteLength);
  return {
    log: { file: name, sectors: String(byteLength / BigInt(SECTOR_SIZE)) },
    status: {
      disk: { path: resolve(name), sizeBytes, blockSizeBytes: blockSize, readOnly, direct },
    },
    labels: { disk: name },
    gauges: [
      { name: "size_bytes", help: "Size of the disk.", value: sizeBytes },
      { name: "read_only", help: "Whether the disk is read-only.", value: Number(readOnly) },
    ],
  };
}
