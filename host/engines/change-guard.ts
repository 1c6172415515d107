// Who wants to know of a part of a disk before it is changed.

/** Shared by whoever changes the disk and whoever looks: nobody does for most of a disk's life. */
export interface ChangeGuard {
  /** What is changed may be changed once this has resolved. It never rejects. */
  before?: ((offset: bigint, byteLength: bigint) => Promise<void>) | undefined;
}
