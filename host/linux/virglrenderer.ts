// libvirglrenderer, which draws what guests say with Mesa's OpenGL. Its OpenGL context is one thread's, from which all calls must come; and
// since it may abort() on what a guest says, that thread's process should have nothing else to lose.
import koffi from "koffi";
import { addressOf } from "./libc.ts";

export const VIRGL_RENDERER_USE_EGL = 1;
export const VIRGL_RENDERER_THREAD_SYNC = 2;
export const VIRGL_RENDERER_USE_GLX = 4;
export const VIRGL_RENDERER_USE_SURFACELESS = 8;
export const VIRGL_RENDERER_USE_GLES = 16;

/** The version that all releases since 0.8 have. */
const LIBRARY = "libvirglrenderer.so.1";

/*
 * struct virgl_renderer_callbacks, version 2
 *  0 version i32          24 destroy_gl_context
 *  8 write_fence          32 make_current
 * 16 create_gl_context    40 get_drm_fd
 */
const CALLBACKS_SIZE = 48;
const CALLBACKS_VERSION = 2;
const WRITE_FENCE = 8;
const GET_DRM_FD = 40;

/** struct virgl_box: x, y, z, w, h, d, u32 each. */
export type Box = readonly [x: number, y: number, z: number, width: number, height: number, depth: number];

/** Where the bytes of a transfer lie: rows and layers are so far apart, from `offset` on. */
export interface Layout {
  readonly level: number;
  readonly stride: number;
  readonly layerStride: number;
  readonly offset: bigint;
}

/** Memory in ranges, as struct iovec has them. Whoever has made it keeps it for as long as the library knows it. */
export interface Ranges {
  readonly iovecs: Uint8Array;
  readonly count: number;
}

const NO_RANGES: Ranges = { iovecs: new Uint8Array(0), count: 0 };

const writeFenceType = koffi.proto("void VirglWriteFence(uintptr_t cookie, uint32_t fence)");
const getDrmFdType = koffi.proto("int VirglGetDrmFd(uintptr_t cookie)");

function load() {
  const library = koffi.load(LIBRARY);
  const declare = (prototype: string) => library.func(prototype);
  return {
    init: declare("int virgl_renderer_init(uintptr_t cookie, int flags, uintptr_t callbacks)"),
    getCapSet: declare("void virgl_renderer_get_cap_set(uint32_t set, void *version, void *size)"),
    fillCaps: declare("void virgl_renderer_fill_caps(uint32_t set, uint32_t version, void *caps)"),
    createContext: declare(
      "int virgl_renderer_context_create(uint32_t context, uint32_t length, const char *name)",
    ),
    destroyContext: declare("void virgl_renderer_context_destroy(uint32_t context)"),
    attachResource: declare("void virgl_renderer_ctx_attach_resource(int context, int resource)"),
    detachResource: declare("void virgl_renderer_ctx_detach_resource(int context, int resource)"),
    createResource: declare(
      "int virgl_renderer_resource_create(void *args, uintptr_t iovecs, uint32_t count)",
    ),
    unrefResource: declare("void virgl_renderer_resource_unref(uint32_t resource)"),
    attachIov: declare("int virgl_renderer_resource_attach_iov(int resource, uintptr_t iovecs, int count)"),
    detachIov: declare("void virgl_renderer_resource_detach_iov(int resource, void *iovecs, void *count)"),
    submit: declare("int virgl_renderer_submit_cmd(uintptr_t commands, int context, int words)"),
    transferRead: declare(
      "int virgl_renderer_transfer_read_iov(uint32_t resource, uint32_t context, uint32_t level, uint32_t stride, uint32_t layerStride, void *box, uint64_t offset, uintptr_t iovecs, int count)",
    ),
    transferWrite: declare(
      "int virgl_renderer_transfer_write_iov(uint32_t resource, uint32_t context, int level, uint32_t stride, uint32_t layerStride, void *box, uint64_t offset, uintptr_t iovecs, unsigned int count)",
    ),
    createFence: declare("int virgl_renderer_create_fence(int fence, uint32_t context)"),
    poll: declare("void virgl_renderer_poll()"),
    getPollFd: declare("int virgl_renderer_get_poll_fd()"),
  };
}

/** The library refused. `status` is its own, an errno or -1. */
export class VirglError extends Error {
  override readonly name = "VirglError";

  constructor(
    readonly call: string,
    readonly status: number,
  ) {
    super(`${call}: ${status}`);
  }
}

export interface VirglSetup {
  /** VIRGL_RENDERER_*. */
  readonly flags: number;
  /** A new descriptor of the render node, which the library closes. Left out: it takes what EGL finds. */
  openNode?(): number;
  /** A fence has been passed: all before it, too. Called by poll() alone. */
  passed(fence: number): void;
}

/** One a process, for good: the library keeps its state in variables of its own. */
export class Virgl {
  /** It must stay where it is: the library keeps the address. */
  private readonly callbacks = Buffer.from(new ArrayBuffer(CALLBACKS_SIZE));

  private constructor(
    private readonly library: ReturnType<typeof load>,
    setup: VirglSetup,
  ) {
    this.callbacks.writeInt32LE(CALLBACKS_VERSION, 0);
    this.callback(WRITE_FENCE, writeFenceType, (_: number, fence: number) => setup.passed(fence));
    const { openNode } = setup;
    if (openNode) this.callback(GET_DRM_FD, getDrmFdType, () => openNode());
    const address = addressOf(this.callbacks);
    checked("virgl_renderer_init", library.init(address, setup.flags, address));
  }

  /** Throws VirglError, and koffi's error where there is no such library. */
  static open(setup: VirglSetup): Virgl {
    return new Virgl(load(), setup);
  }

  /** Undefined: poll() has to be called now and then. */
  get pollFd(): number | undefined {
    const fd = this.library.getPollFd();
    return fd < 0 ? undefined : fd;
  }

  poll(): void {
    this.library.poll();
  }

  /** The newest version of a set of capabilities, and the set. Empty where there is none. */
  capset(id: number): { version: number; bytes: Buffer } {
    const [version, size] = [Buffer.alloc(4), Buffer.alloc(4)];
    this.library.getCapSet(id, version, size);
    const newest = version.readUInt32LE();
    const bytes = Buffer.from(new ArrayBuffer(size.readUInt32LE()));
    if (bytes.length > 0) this.library.fillCaps(id, newest, bytes);
    return { version: newest, bytes };
  }

  createContext(context: number, name: string): void {
    checked(
      "virgl_renderer_context_create",
      this.library.createContext(context, Buffer.byteLength(name), name),
    );
  }

  destroyContext(context: number): void {
    this.library.destroyContext(context);
  }

  attachResource(context: number, resource: number): void {
    this.library.attachResource(context, resource);
  }

  detachResource(context: number, resource: number): void {
    this.library.detachResource(context, resource);
  }

  /** `args`: of struct virgl_renderer_resource_create_args, 11 words. */
  createResource(args: readonly number[]): void {
    checked("virgl_renderer_resource_create", this.library.createResource(words(args), 0, 0));
  }

  /** What memory it had must be detached. */
  unrefResource(resource: number): void {
    this.library.unrefResource(resource);
  }

  attachMemory(resource: number, { iovecs, count }: Ranges): void {
    // SAFETY: the caller holds `iovecs`, and keeps mapped what they name, until detachMemory().
    checked("virgl_renderer_resource_attach_iov", this.library.attachIov(resource, addressOf(iovecs), count));
  }

  detachMemory(resource: number): void {
    this.library.detachIov(resource, null, null);
  }

  /** Whole words. */
  submit(context: number, commands: Uint8Array): void {
    checked(
      "virgl_renderer_submit_cmd",
      this.library.submit(addressOf(commands), context, commands.length / 4),
    );
  }

  /** From the resource to its own memory, or to this. */
  read(resource: number, context: number, box: Box, layout: Layout, ranges: Ranges = NO_RANGES): void {
    const { level, stride, layerStride, offset } = layout;
    const memory = ranges.count > 0 ? addressOf(ranges.iovecs) : 0;
    checked(
      "virgl_renderer_transfer_read_iov",
      this.library.transferRead(
        ...[resource, context, level, stride, layerStride],
        ...[words(box), offset, memory, ranges.count],
      ),
    );
  }

  /** From its own memory to the resource. */
  write(resource: number, context: number, box: Box, layout: Layout): void {
    const { level, stride, layerStride, offset } = layout;
    checked(
      "virgl_renderer_transfer_write_iov",
      this.library.transferWrite(resource, context, level, stride, layerStride, words(box), offset, 0, 0),
    );
  }

  /** passed() is called with this number once all that was asked before has been drawn. */
  createFence(fence: number): void {
    checked("virgl_renderer_create_fence", this.library.createFence(fence, 0));
  }

  private callback(
    offset: number,
    type: ReturnType<typeof koffi.proto>,
    call: (...args: never[]) => unknown,
  ) {
    // Registered for good, as the library is there for good.
    const registered = koffi.register(call, koffi.pointer(type));
    this.callbacks.writeBigUInt64LE(BigInt(koffi.address(registered)), offset);
  }
}

function checked(call: string, status: number): void {
  if (status !== 0) throw new VirglError(call, status);
}

function words(numbers: readonly number[]): Buffer {
  const bytes = Buffer.from(new ArrayBuffer(numbers.length * 4));
  numbers.forEach((number, i) => {
    bytes.writeUInt32LE(number, i * 4);
  });
  return bytes;
}
