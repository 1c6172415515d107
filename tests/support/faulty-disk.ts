// An image on a file system of our own, which fails, falls short or doesn't answer as a test asks.
import { join } from "node:path";
import {
  FUSE_FALLOCATE,
  FUSE_FLUSH,
  FUSE_FSYNC,
  FUSE_GETATTR,
  FUSE_LOOKUP,
  FUSE_OPEN,
  FUSE_READ,
  FUSE_RELEASE,
  FUSE_STATFS,
  FUSE_WRITE,
  type FuseAnswer,
  FuseMount,
  type FuseRequest,
} from "./fuse.ts";

export type OperationName = "read" | "write" | "sync" | "allocate";

export interface FileOperation {
  name: OperationName;
  offset: number;
  byteLength: number;
}

/** How an operation goes wrong: with an errno, after fewer bytes than asked for, or never ends unless let go. */
export type Fault = { errno: number } | { moves: number } | "hold";

interface Held {
  request: FuseRequest;
  operation: FileOperation;
}

const NAMES = new Map<number, OperationName>([
  [FUSE_READ, "read"],
  [FUSE_WRITE, "write"],
  [FUSE_FSYNC, "sync"],
  [FUSE_FALLOCATE, "allocate"],
]);

const ENOSYS = 38;
const ENOENT = 2;
const ROOT = 1n;
const IMAGE = 2n;
const NAME = "disk.img";
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const FOPEN_DIRECT_IO = 1 << 0;
const FOPEN_PARALLEL_DIRECT_WRITES = 1 << 6;
const FUSE_WRITE_IN = 40;
const STATFS_OUT = 80;
/** An hour: nobody else changes the file. */
const VALID_S = 3600n;

export class FaultyDisk {
  readonly bytes: Buffer;
  readonly path: string;
  /** Asked before each operation. */
  fault: (operation: FileOperation) => Fault | undefined = () => undefined;
  /** All that were asked for, those that failed included. */
  readonly operations: FileOperation[] = [];
  readonly held: Held[] = [];
  private readonly mount: FuseMount;

  constructor(byteLength = 16 << 20) {
    this.bytes = Buffer.alloc(byteLength);
    this.mount = new FuseMount((request) => this.answer(request));
    this.path = join(this.mount.directory, NAME);
  }

  count(name: OperationName): number {
    return this.operations.filter((operation) => operation.name === name).length;
  }

  /** Does what was held, and holds nothing more. */
  release(): void {
    this.fault = () => undefined;
    for (const { request, operation } of this.held.splice(0)) {
      this.mount.reply(request, this.perform(request, operation, operation.byteLength));
    }
  }

  [Symbol.dispose](): void {
    this.mount.close();
  }

  private answer(request: FuseRequest): FuseAnswer {
    const { opcode, node } = request;
    switch (opcode) {
      case FUSE_LOOKUP:
        return request.body.toString("latin1") === `${NAME}\0` ? this.entry() : -ENOENT;
      case FUSE_GETATTR:
        return Buffer.concat([validity(), Buffer.alloc(4), this.attributes(node)]);
      case FUSE_OPEN:
        return openReply();
      case FUSE_STATFS:
        return Buffer.alloc(STATFS_OUT);
      case FUSE_RELEASE:
      case FUSE_FLUSH:
        return 0;
    }
    const name = NAMES.get(opcode);
    return name === undefined ? -ENOSYS : this.operate(request, describe(name, request.body));
  }

  private operate(request: FuseRequest, operation: FileOperation): FuseAnswer {
    this.operations.push(operation);
    const fault = this.fault(operation);
    if (fault === "hold") {
      this.held.push({ request, operation });
      return undefined;
    }
    if (fault === undefined) return this.perform(request, operation, operation.byteLength);
    return "errno" in fault ? -fault.errno : this.perform(request, operation, fault.moves);
  }

  private perform(
    { body }: FuseRequest,
    { name, offset }: FileOperation,
    byteLength: number,
  ): Buffer | number {
    const place = this.bytes.subarray(offset, offset + byteLength);
    switch (name) {
      case "read":
        return Buffer.from(place);
      case "write":
        body.copy(place, 0, FUSE_WRITE_IN);
        return writeReply(place.length);
      case "allocate":
        // A hole and a zeroed range read the same.
        place.fill(0);
        return 0;
      case "sync":
        return 0;
    }
  }

  /** struct fuse_entry_out: nodeid, generation, validity of entry and attributes, attributes. */
  private entry(): Buffer {
    const out = Buffer.alloc(40);
    out.writeBigUInt64LE(IMAGE, 0);
    out.writeBigUInt64LE(VALID_S, 16);
    out.writeBigUInt64LE(VALID_S, 24);
    return Buffer.concat([out, this.attributes(IMAGE)]);
  }

  /** struct fuse_attr, 88 bytes. */
  private attributes(node: bigint): Buffer {
    const out = Buffer.alloc(88);
    const isRoot = node === ROOT;
    out.writeBigUInt64LE(node, 0);
    out.writeBigUInt64LE(isRoot ? 0n : BigInt(this.bytes.length), 8);
    out.writeUInt32LE(isRoot ? S_IFDIR | 0o755 : S_IFREG | 0o644, 60);
    out.writeUInt32LE(1, 64); // nlink
    out.writeUInt32LE(4096, 80); // blksize
    return out;
  }
}

function validity(): Buffer {
  const out = Buffer.alloc(12);
  out.writeBigUInt64LE(VALID_S, 0);
  return out;
}

/** Past the page cache, so that a short transfer reaches the daemon, and a write that is held holds up no other. */
function openReply(): Buffer {
  const out = Buffer.alloc(16);
  out.writeUInt32LE(FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES, 8);
  return out;
}

function writeReply(byteLength: number): Buffer {
  const out = Buffer.alloc(8);
  out.writeUInt32LE(byteLength, 0);
  return out;
}

/** read and write: fh, offset, size u32; fallocate: fh, offset, length u64. */
function describe(name: OperationName, body: Buffer): FileOperation {
  if (name === "sync") return { name, offset: 0, byteLength: 0 };
  const byteLength = name === "allocate" ? Number(body.readBigUInt64LE(16)) : body.readUInt32LE(16);
  return { name, offset: Number(body.readBigUInt64LE(8)), byteLength };
}
