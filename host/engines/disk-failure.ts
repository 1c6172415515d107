// What is told of a disk that failed what it was asked to do.
/** What a disk was asked to do, by the name of its method. */
export type DiskOperation = "read" | "write" | "flush" | "discard" | "writeZeroes";

/** Operations of a kind that failed the same way: their requests have failed, the guest sees an I/O error. */
export interface DiskFailure {
  operation: DiskOperation;
  /** A negated errno. 0: nothing was moved where there was something to move. */
  result: number;
  /** Where the first of them failed; a flush has no place. */
  sector: number | undefined;
  count: number;
  /** What a disk that is an object has thrown. */
  error?: unknown;
}

export type OnDiskFailure = (failure: DiskFailure) => void;
