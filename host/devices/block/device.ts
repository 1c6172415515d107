// A disk (virtio 1.4, 5.2). The core takes its requests apart, and an engine of its storage serves them; this is what front-end
// and driver see of it.
import type { EngineRecipe } from "../../engines/recipe.ts";
import type { LinearMemory } from "../../memory/linear-memory.ts";
import { workerCountFor } from "../../memory/worker-part.ts";
import { featureMask } from "../../protocol/feature-bits.ts";
import type { Storage, StorageEngines } from "../../storage/storage.ts";
import type { DeviceCommand, DeviceFacts, QueueSpec } from "../device.ts";
import type { EngineDevice, EngineHost, EngineNews, WorkerChoice } from "../engine-device.ts";
import { DiskActivation } from "./activation.ts";
import { DiskBackup } from "./backup.ts";
import { backupCommand } from "./backup-command.ts";
import { CacheMode } from "./cache-mode.ts";
import { BlockConfig, blockFeatures, type QueueOptions } from "./config.ts";
import {
  clearFlushed,
  failSyncs,
  haveSyncsFailed,
  isFlushed,
  readPaidUntil,
  writeCapacity,
  writeDeviceBlock,
  writeLimits,
  writePaidUntil,
  writeWriteThrough,
} from "./device-block.ts";
import { DiskSize } from "./disk-size.ts";
import { DiskWatch } from "./disk-watch.ts";
import { factsOf } from "./facts.ts";
import { BLOCK_FEATURE_NAMES } from "./feature-names.ts";
import { BLOCK_KINDS } from "./kinds.ts";
import type { LimitValues } from "./limits.ts";
import { limitsCommand } from "./limits-command.ts";
import { resizeCommand } from "./resize-command.ts";
import { BlockState } from "./state.ts";
import { type DiskParts, DiskSuccession } from "./succession.ts";

const VIRTIO_ID_BLOCK = 2;

/**
 * VIRTIO_F_ANY_LAYOUT, from before virtio 1.0. QEMU offers it to guests by itself and passes on that they took it;
 * any layout is what the core takes anyway.
 */
const ANY_LAYOUT = featureMask([27]);

const REQUEST_QUEUE: QueueSpec = { name: "requestq", credit: "all", recover: "repeat" };

export interface BlockDeviceOptions {
  /** How often to look whether the file or device has grown; 0: never. */
  readonly watchSeconds?: number;
  readonly limits?: LimitValues;
}

export class BlockDevice implements EngineDevice {
  readonly type = "block";
  readonly virtioId = VIRTIO_ID_BLOCK;
  readonly queues: readonly QueueSpec[];
  readonly features: bigint;
  readonly featureNames = BLOCK_FEATURE_NAMES;
  readonly ignoredFeatures = ANY_LAYOUT;
  readonly config: BlockConfig;
  readonly inflight = true;
  readonly migrates = true;
  readonly state: BlockState;
  readonly activation: DiskActivation | undefined;
  readonly succession: DiskSuccession;
  readonly kinds = BLOCK_KINDS;
  readonly workers: WorkerChoice;
  readonly commands: Readonly<Record<string, DeviceCommand>>;
  private readonly size: DiskSize;
  private readonly backup: DiskBackup;
  private readonly watchSeconds: number;
  private current: LimitValues;
  private writeLimits: (values: LimitValues) => void = () => {};
  private readonly cache = new CacheMode();
  private engines: StorageEngines | undefined;
  private memory: LinearMemory | undefined;
  private watch: DiskWatch | undefined;

  constructor(
    private readonly storage: Storage,
    queues: QueueOptions,
    workers: WorkerChoice,
    { watchSeconds = 0, limits = {} }: BlockDeviceOptions = {},
  ) {
    this.watchSeconds = watchSeconds;
    this.current = limits;
    const { handover, facts } = storage;
    this.activation = handover && new DiskActivation(handover, facts.overlay ?? facts.name);
    this.size = new DiskSize(storage, this.activation);
    const name = facts.overlay ?? facts.name;
    this.backup = new DiskBackup(storage, this.size, this.activation);
    this.succession = new DiskSuccession(
      storage.inheritance,
      this.activation,
      this.cache,
      this.parts(),
      name,
      this.backup,
    );
    this.commands = {
      resize: resizeCommand(this.size),
      limits: limitsCommand(this),
      backup: backupCommand(this.backup),
    };
    this.queues = Array.from({ length: queues.queueCount }, () => REQUEST_QUEUE);
    this.features = blockFeatures(storage.facts);
    this.state = new BlockState(this.cache);
    this.config = new BlockConfig(storage.facts, queues, this.cache);
    const threads = storage.isLocal ? 1 : workerCountFor(workers.threads, queues.queueCount);
    this.workers = { ...workers, threads };
  }

  get facts(): DeviceFacts {
    return factsOf(this.storage, this.size, () => this.current, this.activation);
  }

  /** How much it may do, which can be changed at any time. */
  get limits(): LimitValues {
    return this.current;
  }

  set limits(values: LimitValues) {
    this.current = values;
    this.writeLimits(values);
  }

  get hasOwnThreads(): boolean {
    return !this.storage.isLocal;
  }

  get news(): EngineNews {
    return this.watch!;
  }

  openEngines(host: EngineHost): EngineRecipe {
    const { memory, log, requestFailed } = host;
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
      {
        write: (mode) => writeWriteThrough(memory, mode),
        forgetFlush: () => clearFlushed(memory),
        hasFlushed: () => isFlushed(memory),
      },
      log,
    );
    this.size.attach(host, (byteLength) => {
      // In this order: whoever reads the one may use the other.
      writeCapacity(memory, byteLength);
      this.config.setSize(byteLength);
    });
    this.activation?.attach(
      {
        taken: async () => {
          if (this.storage.handover!.mayChangeSize) await this.size.renew();
        },
        leaving: () => this.backup.leave(),
        haveFlushesFailed: () => haveSyncsFailed(memory),
        failFlushes: () => failSyncs(memory),
      },
      log,
    );
    this.backup.attach(host);
    this.size.watch(this.watchSeconds);
    this.writeLimits = (values) => writeLimits(memory, values);
    this.writeLimits(this.current);
    this.watch = watch;
    this.memory = memory;
    this.engines = engines;
    return engines.recipe;
  }

  closeEngines(): void {
    this.size.end();
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
    await this.backup.cancel();
    await this.storage.close();
  }

  /** For a successor, and of a predecessor. */
  private parts(): DiskParts {
    const disk = this;
    return {
      get limits() {
        return disk.limits;
      },
      set limits(values) {
        disk.limits = values;
      },
      get byteLength() {
        return disk.size.byteLength;
      },
      set byteLength(byteLength) {
        disk.size.restore(byteLength);
      },
      get paidUntil() {
        return readPaidUntil(disk.memory!);
      },
      set paidUntil(times) {
        writePaidUntil(disk.memory!, times);
      },
      get haveFlushesFailed() {
        return haveSyncsFailed(disk.memory!);
      },
      failFlushes: () => failSyncs(disk.memory!),
      leave: async () => disk.storage.leave?.(),
    };
  }
}
