// librbd, Ceph's own client for images: an image's life. Its requests are in rbd-aio.ts. All that may wait for the network runs in
// libuv's thread pool; results are 0 or more, or a negated errno.
import koffi from "koffi";
import { ENOENT, ERANGE } from "./errno.ts";
import { cell, inPool, loadCephLibrary, pointerIn, radosCalls, textIn } from "./librados.ts";

export const RBD_FEATURE_EXCLUSIVE_LOCK = 4n;
const RBD_LOCK_MODE_EXCLUSIVE = 0;

/*
 * rbd_image_info_t          rbd_image_watcher_t
 *  0 size u64                0 addr pointer
 *  8 obj_size u64            8 id i64
 * 16 num_objs u64 ...       16 cookie u64
 */
const INFO_SIZE = 160;
const INFO_OBJECT_SIZE = 8;
const WATCHER_SIZE = 24;
/** struct timespec: seconds and nanoseconds, i64 each. */
const TIMESPEC_SIZE = 16;

const TEXT_MAX = 1024;
/** Of a list; the library says ERANGE if that is too few. */
const LIST_MAX = 64;

const changedType = koffi.proto("void RbdImageChanged(uintptr_t argument)");

function load() {
  return loadCephLibrary("librbd.so.1", "librbd1", (declare) => ({
    open: declare("int rbd_open(uintptr_t pool, const char *name, void *image, const char *snapshot)"),
    openReadOnly: declare(
      "int rbd_open_read_only(uintptr_t pool, const char *name, void *image, const char *snapshot)",
    ),
    close: declare("int rbd_close(uintptr_t image)"),
    id: declare("int rbd_get_id(uintptr_t image, void *id, size_t length)"),
    size: declare("int rbd_get_size(uintptr_t image, void *size)"),
    features: declare("int rbd_get_features(uintptr_t image, void *features)"),
    stat: declare("int rbd_stat(uintptr_t image, void *info, size_t length)"),
    read: declare("int64_t rbd_read(uintptr_t image, uint64_t offset, size_t length, void *bytes)"),
    metadata: declare("int rbd_metadata_get(uintptr_t image, const char *key, void *value, void *length)"),
    poolMetadata: declare(
      "int rbd_pool_metadata_get(uintptr_t pool, const char *key, void *value, void *length)",
    ),
    acquireLock: declare("int rbd_lock_acquire(uintptr_t image, int mode)"),
    releaseLock: declare("int rbd_lock_release(uintptr_t image)"),
    isLockOwner: declare("int rbd_is_exclusive_lock_owner(uintptr_t image, void *isOwner)"),
    flush: declare("int rbd_flush(uintptr_t image)"),
    breakLock: declare("int rbd_lock_break(uintptr_t image, int mode, const char *owner)"),
    lockOwners: declare("int rbd_lock_get_owners(uintptr_t image, void *mode, void *owners, void *count)"),
    freeOwners: declare("void rbd_lock_get_owners_cleanup(void *owners, size_t count)"),
    watchers: declare("int rbd_watchers_list(uintptr_t image, void *watchers, void *count)"),
    freeWatchers: declare("void rbd_watchers_list_cleanup(void *watchers, size_t count)"),
    watchUpdates: declare(
      "int rbd_update_watch(uintptr_t image, void *handle, uintptr_t changed, uintptr_t argument)",
    ),
    unwatchUpdates: declare("int rbd_update_unwatch(uintptr_t image, uint64_t handle)"),
    snapshotId: declare("int rbd_snap_get_id(uintptr_t image, const char *snapshot, void *id)"),
    snapshotTime: declare("int rbd_snap_get_timestamp(uintptr_t image, uint64_t id, void *time)"),
    isProtected: declare(
      "int rbd_snap_is_protected(uintptr_t image, const char *snapshot, void *isProtected)",
    ),
    notify: declare("int rbd_set_image_notification(uintptr_t image, int fd, int type)"),
    pollEvents: declare("int rbd_poll_io_events(uintptr_t image, void *completions, int count)"),
    createCompletion: declare(
      "int rbd_aio_create_completion(uintptr_t argument, uintptr_t called, void *completion)",
    ),
    release: declare("void rbd_aio_release(uintptr_t completion)"),
    argument: declare("uintptr_t rbd_aio_get_arg(uintptr_t completion)"),
    returnValue: declare("int64_t rbd_aio_get_return_value(uintptr_t completion)"),
    aioRead: declare(
      "int rbd_aio_read(uintptr_t image, uint64_t offset, size_t length, uintptr_t bytes, uintptr_t completion)",
    ),
    aioReadv: declare(
      "int rbd_aio_readv(uintptr_t image, uintptr_t iovecs, int count, uint64_t offset, uintptr_t completion)",
    ),
    aioWrite: declare(
      "int rbd_aio_write(uintptr_t image, uint64_t offset, size_t length, uintptr_t bytes, uintptr_t completion)",
    ),
    aioWritev: declare(
      "int rbd_aio_writev(uintptr_t image, uintptr_t iovecs, int count, uint64_t offset, uintptr_t completion)",
    ),
    aioFlush: declare("int rbd_aio_flush(uintptr_t image, uintptr_t completion)"),
    aioDiscard: declare(
      "int rbd_aio_discard(uintptr_t image, uint64_t offset, uint64_t length, uintptr_t completion)",
    ),
    aioWriteZeroes: declare(
      "int rbd_aio_write_zeroes(uintptr_t image, uint64_t offset, size_t length, uintptr_t completion, int zeroFlags, int flags)",
    ),
  }));
}

type Callback = ReturnType<typeof koffi.register>;
export type RbdCalls = ReturnType<typeof load>;
let library: RbdCalls | undefined;

/** Throws CephLibraryError. */
export function rbdCalls(): RbdCalls {
  // It needs that one, and would be blamed for it.
  radosCalls();
  library ??= load();
  return library;
}

export interface SnapshotFacts {
  /** Since 1970. */
  readonly takenNs: bigint;
  /** It can't be removed. */
  readonly isProtected: boolean;
}

/** An open image. It must be closed before its pool is. */
export class RbdImage {
  private updates: Promise<{ handle: bigint; callback: Callback } | undefined> | undefined;

  private constructor(
    private readonly calls: RbdCalls,
    readonly handle: number,
  ) {}

  /** A negated errno if it can't be opened. */
  static async open(
    pool: number,
    name: string,
    snapshot: string | undefined,
    readOnly: boolean,
  ): Promise<RbdImage | number> {
    const calls = rbdCalls();
    const out = cell();
    const result = await inPool(
      readOnly ? calls.openReadOnly : calls.open,
      pool,
      name,
      out,
      snapshot ?? null,
    );
    return result < 0 ? result : new RbdImage(calls, pointerIn(out));
  }

  /** Its lock goes with it. */
  async close(): Promise<number> {
    return inPool(this.calls.close, this.handle);
  }

  /** It stays the same however the image is called. */
  get id(): string {
    const text = Buffer.alloc(TEXT_MAX);
    return this.calls.id(this.handle, text, text.length) < 0 ? "" : textIn(text);
  }

  async byteLength(): Promise<bigint> {
    const out = cell();
    return BigInt(await inPool(this.calls.size, this.handle, out)) || out.readBigUInt64LE();
  }

  async features(): Promise<bigint> {
    const out = cell();
    return BigInt(await inPool(this.calls.features, this.handle, out)) || out.readBigUInt64LE();
  }

  /** In bytes; objects are what the cluster stores it in. */
  async objectSize(): Promise<number> {
    const info = Buffer.alloc(INFO_SIZE);
    const result = await inPool(this.calls.stat, this.handle, info, info.length);
    return result < 0 ? result : Number(info.readBigUInt64LE(INFO_OBJECT_SIZE));
  }

  /** How many bytes were there. */
  read(offset: bigint, bytes: Buffer): Promise<number> {
    return inPool(this.calls.read, this.handle, offset, bytes.length, bytes);
  }

  /** Of a snapshot of the image; or a negated errno. */
  async snapshotFacts(name: string): Promise<SnapshotFacts | number> {
    const { calls, handle } = this;
    const [id, time, isProtected] = [cell(), Buffer.alloc(TIMESPEC_SIZE), cell()];
    for (const call of [
      () => inPool(calls.snapshotId, handle, name, id),
      () => inPool(calls.snapshotTime, handle, id.readBigUInt64LE(), time),
      () => inPool(calls.isProtected, handle, name, isProtected),
    ]) {
      const result = await call();
      if (result < 0) return result;
    }
    const takenNs = time.readBigInt64LE() * 1_000_000_000n + time.readBigInt64LE(8);
    return { takenNs, isProtected: isProtected.readInt32LE() !== 0 };
  }

  /** What is noted with the image, such as settings that go before those of its clients. */
  metadata(key: string): Promise<string | undefined> {
    return metadataOf(this.calls.metadata, this.handle, key);
  }

  /** Waits for a lock that nobody living holds. EROFS: its owner lives, and keeps it. */
  acquireLock(): Promise<number> {
    return inPool(this.calls.acquireLock, this.handle, RBD_LOCK_MODE_EXCLUSIVE);
  }

  /** Nothing can be written from here on, before it is acquired again. */
  releaseLock(): Promise<number> {
    return inPool(this.calls.releaseLock, this.handle);
  }

  /** 1 or 0, as the cluster says; or a negated errno. */
  async isLockOwner(): Promise<number> {
    const isOwner = cell();
    return (await inPool(this.calls.isLockOwner, this.handle, isOwner)) || isOwner.readInt32LE();
  }

  /** Waits for all that was written. */
  flush(): Promise<number> {
    return inPool(this.calls.flush, this.handle);
  }

  /** The cluster takes nothing from `owner` any more when it resolves. */
  breakLock(owner: string): Promise<number> {
    return inPool(this.calls.breakLock, this.handle, RBD_LOCK_MODE_EXCLUSIVE, owner);
  }

  /** The address of the client that has the lock; undefined if none has. Or a negated errno. */
  async lockOwner(): Promise<string | undefined | number> {
    const [mode, owners, count] = [cell(), Buffer.alloc(8), cell()];
    count.writeBigUInt64LE(1n);
    const result = await inPool(this.calls.lockOwners, this.handle, mode, owners, count);
    if (result === -ENOENT) return undefined;
    if (result < 0) return result;
    const found = Number(count.readBigUInt64LE());
    const owner = found > 0 ? textAt(pointerIn(owners)) : undefined;
    this.calls.freeOwners(owners, found);
    return owner;
  }

  /** The addresses of all clients that have it open for writing, ours among them. */
  async watchers(): Promise<string[]> {
    const [watchers, count] = [Buffer.alloc(LIST_MAX * WATCHER_SIZE), cell()];
    count.writeBigUInt64LE(BigInt(LIST_MAX));
    const result = await inPool(this.calls.watchers, this.handle, watchers, count);
    if (result < 0) return [];
    const found = Number(count.readBigUInt64LE());
    const addresses = Array.from({ length: found }, (_, i) => textAt(pointerIn(watchers, i * WATCHER_SIZE)));
    this.calls.freeWatchers(watchers, found);
    return addresses;
  }

  /**
   * Calls `changed` whenever something of the image has, such as its size. The library's thread that tells waits until this thread has
   * heard it, so nothing that waits for that thread may be called here.
   */
  async watchUpdates(changed: () => void): Promise<number> {
    const callback = koffi.register(changed, koffi.pointer(changedType));
    const handle = cell();
    const watching = inPool(this.calls.watchUpdates, this.handle, handle, koffi.address(callback), 0);
    this.updates = watching.then((result) => {
      if (result >= 0) return { handle: handle.readBigUInt64LE(), callback };
      koffi.unregister(callback);
      return undefined;
    });
    return watching;
  }

  async unwatchUpdates(): Promise<void> {
    const updates = await this.updates;
    this.updates = undefined;
    if (updates === undefined) return;
    await inPool(this.calls.unwatchUpdates, this.handle, updates.handle);
    koffi.unregister(updates.callback);
  }
}

/** What is noted with a pool. */
export function poolMetadata(pool: number, key: string): Promise<string | undefined> {
  return metadataOf(rbdCalls().poolMetadata, pool, key);
}

async function metadataOf(
  fn: Parameters<typeof inPool>[0],
  handle: number,
  key: string,
): Promise<string | undefined> {
  const [value, length] = [Buffer.alloc(TEXT_MAX), cell()];
  length.writeBigUInt64LE(BigInt(TEXT_MAX));
  const result = await inPool(fn, handle, key, value, length);
  // What is too long for us is no word that we look for.
  if (result === -ERANGE) return "";
  return result < 0 ? undefined : textIn(value);
}

function textAt(address: number): string {
  return koffi.decode(address as never, "char", -1) as unknown as string;
}
