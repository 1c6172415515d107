// What can lie behind a virtual disk, as whoever serves it sees it: what it is, how its operations are to be asked for, and
// how workers come by an engine that does them. Files, block devices, memory, NBD exports, overlays and objects are all this.
import type { OnDiskFailure } from "../engines/disk-failure.ts";
import type { EngineRecipe, FileEngine } from "../engines/recipe.ts";
import type { Descriptor } from "../linux/descriptor.ts";
import type { LinearMemory } from "../memory/linear-memory.ts";
import type { Copying } from "./backup/copying.ts";

/** What the storage was when it was opened. Nothing of it changes while it is open, but for its size where `sizing` says so. */
export interface StorageFacts {
  /** As it was named, for messages, the log and status. */
  readonly name: string;
  /** Whether that is a path of this machine. */
  readonly isPath: boolean;
  /** Where changes go, if not to what is named. */
  readonly overlay?: string | undefined;
  /** In bytes; a multiple of the block size. */
  readonly byteLength: bigint;
  /** What the guest sees, in bytes: 512 to 4096, a power of two. */
  readonly blockSize: number;
  readonly readOnly: boolean;
  /** Whether a discard gives space back. */
  readonly discard: "unmap" | "ignore";
  /** Segments that one discard or write-zeroes request may have. */
  readonly rangeSegments: number;
  /** The longest of them, in bytes; a multiple of 512. */
  readonly rangeBytesMax: number;
  /** Up to 20 ASCII characters. */
  readonly serial: string;
  /** Past the page cache, with O_DIRECT. */
  readonly direct: boolean;
  /** What discards should be aligned to, in bytes, where that is more than what disks prefer. */
  readonly discardAlignment?: number;
  /** What is best read or written at a time, in bytes. */
  readonly optimalBytes?: number;
}

/** How storage that others can take away, or that may not answer, is doing. */
export interface Standing {
  /** Another has taken it, and all requests fail. */
  readonly isFenced: boolean;
  /** For how long requests have waited while none was answered, in seconds. */
  readonly silentSeconds: number;
}

/** How the core is to ask the engine for operations: what goes into SQEs, and what the engine does by itself. */
export interface OperationForm {
  /** What SQEs name. */
  readonly fd: number;
  /** The same for what O_DIRECT refuses; without O_DIRECT the same number. */
  readonly unalignedFd: number;
  /** Bits that O_DIRECT wants clear in addresses, offsets and lengths. */
  readonly directMask: number;
  /** The file behind the buffers that O_DIRECT takes, if there are any. */
  readonly bounceFd?: number | undefined;
  /** Discards and write-zeroes are told apart by a mark; otherwise both punch holes. */
  readonly marksDiscards: boolean;
  /** The engine itself remembers a flush that failed; otherwise the core fails all later ones. */
  readonly keepsAccount: boolean;
  /** Operations to submit at a time, for the most throughput. */
  readonly turnRequests: number;
}

/** What the workers are, and what they ask for. */
export interface EnginesSetup {
  memory: LinearMemory;
  workerCount: number;
  /** Which engine serves what the kernel can serve. */
  engine: FileEngine;
  /** Told of operations that fail, by engines that know more of them than the core's counts say. */
  onFailure: OnDiskFailure;
}

/** The storage at work. */
export interface StorageEngines {
  readonly recipe: EngineRecipe;
  readonly form: OperationForm;
  /** Whether failures are told to `onFailure`; otherwise the core counts them. */
  readonly tellsFailures: boolean;
  /** After the last worker has ended. */
  close(): void;
}

/** Of storage whose size may change while it is served. Sizes are in bytes, in whole blocks. */
export interface Sizing {
  /**
   * How large it is now. It can be served so from then on, unless it is smaller and `mayShrink` is false. Rejects with a RangeError
   * that says why this can't be told.
   */
  measure(mayShrink: boolean): Promise<bigint>;
  /** The same at once, where that costs next to nothing. */
  look?(): bigint;
  /** Calls `changed` whenever it may have another size, for as long as the storage is open. */
  onChange?(changed: () => void): Promise<void>;
  /** It is served at the size that it has now. */
  taken?(): void;
  /** Makes it so large, or so small. Left out: that is somebody else's to do. */
  set?(byteLength: bigint): Promise<void>;
}

/** Of storage that one process at a time may write, and hands to another one while its guest moves there. */
export interface Handover {
  /** Whether it is this process's from the start. */
  readonly isOurs: boolean;
  /** Whether a lock keeps others away while it is this process's. It may turn out that there is none. */
  readonly hasLock: boolean;
  /** How long another may take to let it go, in milliseconds. */
  readonly patienceMs: number;
  /** Whether it can have another size by the time it is taken. */
  readonly mayChangeSize: boolean;
  /** Takes it as it is by now, unless another has it. Nothing else may use it meanwhile. Rejects with what the kernel says. */
  tryTake(): Promise<boolean>;
  /** Who has it, in words that follow "is". */
  describeHolder(): Promise<string>;
  /** What was written is stable when it resolves, and nothing is to be written any more. Rejects with what the kernel says. */
  flush(): Promise<void>;
  /** Others may take it, and see all that was flushed. */
  letGo(): Promise<void>;
}

/** A file or a block device as the process that has opened it hands it to the next. The descriptors stand for the same open files there. */
export interface InheritedFile {
  readonly image: Descriptor;
  /** The same through the page cache; without O_DIRECT the same descriptor. */
  readonly buffered: Descriptor;
  /** Opened by somebody else to begin with. */
  readonly isAdopted: boolean;
  /** Whether locks keep others away. */
  readonly isLocking: boolean;
  readonly serial: string;
}

/**
 * How the next process comes by the storage while a guest uses it: by open descriptors; by opening it anew, after it was let go (where
 * there is a handover) or beside this one; or not at all, and why not, after its name.
 */
export type Inheritance =
  | { readonly kind: "descriptors"; offer(): InheritedFile }
  | { readonly kind: "anew" }
  | { readonly kind: "none"; readonly why: string };

export interface Storage {
  /** A string says why it can't be copied while it is served, after its name. */
  readonly copying: Copying | string;
  readonly inheritance: Inheritance;
  /** Left out: it is this process's, or there is nothing that only one may have. */
  readonly handover?: Handover | undefined;
  readonly facts: StorageFacts;
  /** Left out: it is as it was opened. */
  readonly standing?: Standing | undefined;
  /** A string says why the size stays as it is, after the name. */
  readonly sizing: Sizing | string;
  /** Served in the thread that has opened it, by one worker. */
  readonly isLocal: boolean;
  /** Once, before the first worker starts. */
  openEngines(setup: EnginesSetup): StorageEngines;
  /** Another process that has opened it anew goes on with it: what others see of this one is taken away. Left out: there is nothing. */
  leave?(): Promise<void>;
  /** Lets go of it, once the last request has finished. */
  close(): Promise<void>;
}

/** The largest block that a guest is given, in bytes. */
export const BLOCK_SIZE_MAX = 4096;

/** Just under 2 GiB in whole 4 KiB: what fits the kernel's signed 32-bit lengths. */
export const RANGE_BYTES_MAX = 0x7ffff000;
