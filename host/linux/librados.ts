// librados, by which a client reaches a Ceph cluster: loaded when somebody asks for one. What may wait for the network runs in
// libuv's thread pool; results are 0 or more, or a negated errno.
import koffi from "koffi";

/** A library of Ceph's that can't be loaded. */
export class CephLibraryError extends Error {
  override readonly name = "CephLibraryError";

  constructor(
    readonly library: string,
    readonly debianPackage: string,
    reason: string,
  ) {
    super(`${library} can't be loaded (${reason}); install Debian's ${debianPackage}`);
  }
}

type Foreign = ReturnType<ReturnType<typeof koffi.load>["func"]>;
type Declare = (prototype: string) => Foreign;

/** Loads a library's functions. Throws CephLibraryError. */
export function loadCephLibrary<T>(
  library: string,
  debianPackage: string,
  declareAll: (declare: Declare) => T,
): T {
  try {
    const loaded = koffi.load(library);
    return declareAll((prototype) => loaded.func(prototype));
  } catch (error) {
    const [reason = ""] = (error as Error).message.split("\n");
    throw new CephLibraryError(
      library,
      debianPackage,
      reason.replace(/^Failed to load shared library: /, ""),
    );
  }
}

/** The call in libuv's thread pool. Memory that an argument is the address of is the caller's to hold until then. */
export function inPool(fn: Foreign, ...args: unknown[]): Promise<number> {
  return new Promise((resolve, reject) => {
    fn.async(...args, (error: unknown, result: number) => (error ? reject(error) : resolve(result)));
  });
}

/** Room for a pointer or a number that a function hands back. */
export function cell(): Buffer {
  return Buffer.alloc(8);
}

/** Of addresses in user space, which a number holds exactly. */
export function pointerIn(bytes: Buffer, offset = 0): number {
  return bytes.readUInt32LE(offset) + bytes.readUInt32LE(offset + 4) * 2 ** 32;
}

function load() {
  return loadCephLibrary("librados.so.2", "librados2", (declare) => ({
    create: declare("int rados_create2(void *cluster, const char *name, const char *user, uint64_t flags)"),
    readConf: declare("int rados_conf_read_file(uintptr_t cluster, const char *path)"),
    setConf: declare("int rados_conf_set(uintptr_t cluster, const char *option, const char *value)"),
    getConf: declare("int rados_conf_get(uintptr_t cluster, const char *option, void *value, size_t length)"),
    connect: declare("int rados_connect(uintptr_t cluster)"),
    shutdown: declare("void rados_shutdown(uintptr_t cluster)"),
    fsid: declare("int rados_cluster_fsid(uintptr_t cluster, void *text, size_t length)"),
    createContext: declare("int rados_ioctx_create(uintptr_t cluster, const char *pool, void *context)"),
    setNamespace: declare("void rados_ioctx_set_namespace(uintptr_t context, const char *name)"),
    poolId: declare("int64_t rados_ioctx_get_id(uintptr_t context)"),
    destroyContext: declare("void rados_ioctx_destroy(uintptr_t context)"),
    monCommand: declare(
      "int rados_mon_command(uintptr_t cluster, const char **commands, size_t count, const char *input, size_t inputLength, void *output, void *outputLength, void *status, void *statusLength)",
    ),
    free: declare("void rados_buffer_free(uintptr_t buffer)"),
  }));
}

let library: ReturnType<typeof load> | undefined;

/** Throws CephLibraryError. */
export function radosCalls(): ReturnType<typeof load> {
  library ??= load();
  return library;
}

const TEXT_MAX = 4096;

/** A client of a cluster. */
export class Rados {
  private constructor(
    private readonly calls: ReturnType<typeof load>,
    private readonly handle: number,
  ) {}

  /** Not connected yet. `user` such as "client.admin". Throws CephLibraryError, and RangeError for a name that can't be one. */
  static create(user: string): Rados {
    const calls = radosCalls();
    const out = cell();
    const result = calls.create(out, "ceph", user, 0);
    if (result < 0) throw new RangeError(`rados_create2: ${result}`);
    return new Rados(calls, pointerIn(out));
  }

  /** Left out: where Ceph's clients look. */
  readConf(path?: string): number {
    return this.calls.readConf(this.handle, path ?? null);
  }

  setConf(option: string, value: string): number {
    return this.calls.setConf(this.handle, option, value);
  }

  /** Undefined for an option that this release doesn't know. */
  conf(option: string): string | undefined {
    const value = Buffer.alloc(TEXT_MAX);
    const result = this.calls.getConf(this.handle, option, value, value.length);
    return result < 0 ? undefined : textIn(value);
  }

  connect(): Promise<number> {
    return inPool(this.calls.connect, this.handle);
  }

  async shutdown(): Promise<void> {
    await inPool(this.calls.shutdown, this.handle);
  }

  /** Of one that is connected. */
  get fsid(): string {
    const text = Buffer.alloc(TEXT_MAX);
    this.calls.fsid(this.handle, text, text.length);
    return textIn(text);
  }

  /** A pool: its handle, or a negated errno. */
  async openPool(name: string, namespace: string): Promise<number> {
    const out = cell();
    const result = await inPool(this.calls.createContext, this.handle, name, out);
    if (result < 0) return result;
    const pool = pointerIn(out);
    if (namespace !== "") this.calls.setNamespace(pool, namespace);
    return pool;
  }

  poolId(pool: number): number {
    return Number(this.calls.poolId(pool));
  }

  closePool(pool: number): void {
    this.calls.destroyContext(pool);
  }

  /** A command of the monitors', whose answer is of no interest. */
  async command(command: Readonly<Record<string, string>>): Promise<number> {
    const [output, outputLength, status, statusLength] = [cell(), cell(), cell(), cell()];
    const answers = [output, outputLength, status, statusLength];
    const result = await inPool(
      this.calls.monCommand,
      this.handle,
      [JSON.stringify(command)],
      1,
      "",
      0,
      ...answers,
    );
    for (const buffer of [output, status]) if (pointerIn(buffer) !== 0) this.calls.free(pointerIn(buffer));
    return result;
  }
}

/** Up to its NUL. */
export function textIn(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString("utf8", 0, end === -1 ? bytes.length : end);
}
