// The kernel's side of FUSE (linux/fuse.h, protocol 7.31): a file system whose every operation this process answers.
import { spawnSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmdirSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { whenReadable } from "../../host/linux/readiness.ts";

export const FUSE_LOOKUP = 1;
export const FUSE_FORGET = 2;
export const FUSE_GETATTR = 3;
export const FUSE_OPEN = 14;
export const FUSE_READ = 15;
export const FUSE_WRITE = 16;
export const FUSE_STATFS = 17;
export const FUSE_RELEASE = 18;
export const FUSE_FSYNC = 20;
export const FUSE_FLUSH = 25;
export const FUSE_INIT = 26;
export const FUSE_INTERRUPT = 36;
export const FUSE_BATCH_FORGET = 42;
export const FUSE_FALLOCATE = 43;

/** What the kernel wants no answer to. */
const UNANSWERED = [FUSE_FORGET, FUSE_BATCH_FORGET, FUSE_INTERRUPT];

const FUSE_ASYNC_READ = 1 << 0;
const FUSE_BIG_WRITES = 1 << 5;
const FUSE_ASYNC_DIO = 1 << 15;
const FUSE_MAX_PAGES = 1 << 22;

/** struct fuse_in_header: len u32, opcode u32, unique u64, nodeid u64, and 16 bytes more. */
const IN_HEADER = 40;
/** struct fuse_out_header: len u32, error i32, unique u64. */
const OUT_HEADER = 16;

export const FUSE_WRITE_MAX = 1 << 20;
const BACKGROUND_MAX = 1024;

export interface FuseRequest {
  opcode: number;
  unique: bigint;
  node: bigint;
  /** What follows the header. */
  body: Buffer;
}

/** The body of the reply, a negated errno, or undefined: later, by reply(). */
export type FuseAnswer = Buffer | number | undefined;

export class FuseMount {
  readonly directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  private readonly fd: number;
  private readonly watcher: { stop(): void };
  private readonly buffer = Buffer.alloc(FUSE_WRITE_MAX + 64 * 1024);
  private isOpen = true;

  /** Our own thread answers, so it must not look into the directory with a call that waits. */
  constructor(private readonly answer: (request: FuseRequest) => FuseAnswer) {
    try {
      this.fd = mount(this.directory);
    } catch (error) {
      rmdirSync(this.directory);
      throw error;
    }
    this.watcher = whenReadable(this.fd, () => this.serve());
    process.once("exit", this.close);
  }

  reply({ unique }: FuseRequest, answer: Buffer | number): void {
    const body = typeof answer === "number" ? Buffer.alloc(0) : answer;
    const header = Buffer.alloc(OUT_HEADER);
    header.writeUInt32LE(OUT_HEADER + body.length, 0);
    header.writeInt32LE(typeof answer === "number" ? answer : 0, 4);
    header.writeBigUInt64LE(unique, 8);
    unlessGone(() => writeSync(this.fd, Buffer.concat([header, body])));
  }

  /** Whatever has not been answered fails. */
  readonly close = (): void => {
    if (!this.isOpen) return;
    this.isOpen = false;
    process.off("exit", this.close);
    this.watcher.stop();
    closeSync(this.fd);
    spawnSync("umount", ["-l", this.directory]);
    rmdirSync(this.directory);
  };

  private serve(): void {
    while (this.isOpen) {
      const length = unlessGone(() => readSync(this.fd, this.buffer));
      if (length === undefined) return;
      const { buffer } = this;
      const request = {
        opcode: buffer.readUInt32LE(4),
        unique: buffer.readBigUInt64LE(8),
        node: buffer.readBigUInt64LE(16),
        body: Buffer.from(buffer.subarray(IN_HEADER, length)),
      };
      const answer = request.opcode === FUSE_INIT ? initReply() : this.answer(request);
      if (answer !== undefined && !UNANSWERED.includes(request.opcode)) this.reply(request, answer);
    }
  }
}

/** Why there can be no such file system here, or false. */
export function whyNoFuse(): string | false {
  try {
    new FuseMount(() => 0).close();
    return false;
  } catch (error) {
    return `FUSE can't be mounted here: ${(error as Error).message.split("\n")[0]}`;
  }
}

/** Returns the descriptor that the kernel asks by. */
function mount(directory: string): number {
  const fd = openSync("/dev/fuse", constants.O_RDWR | constants.O_NONBLOCK);
  const options = "fd=3,rootmode=40000,user_id=0,group_id=0";
  // Without mount.fuse, which is another package.
  const command = ["-i", "-t", "fuse", "-o", options, "vringd-test", directory];
  const { status, stderr, error } = spawnSync("mount", command, {
    stdio: ["ignore", "ignore", "pipe", fd],
    encoding: "utf8",
  });
  if (status === 0) return fd;
  closeSync(fd);
  throw error ?? new Error(stderr);
}

/** struct fuse_init_out, 64 bytes. */
function initReply(): Buffer {
  const out = Buffer.alloc(64);
  out.writeUInt32LE(7, 0);
  out.writeUInt32LE(31, 4);
  out.writeUInt32LE(FUSE_WRITE_MAX, 8); // max_readahead
  // As libfuse asks for it. Without ASYNC_DIO io_uring waits where it should not, and goes on after a short read from
  // where that began (Linux 6.18).
  out.writeUInt32LE(FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_MAX_PAGES, 12);
  out.writeUInt16LE(BACKGROUND_MAX, 16);
  out.writeUInt16LE(BACKGROUND_MAX, 18);
  out.writeUInt32LE(FUSE_WRITE_MAX, 20);
  out.writeUInt32LE(1, 24); // time_gran
  out.writeUInt16LE(FUSE_WRITE_MAX / 4096, 28);
  return out;
}

/** EAGAIN: nothing more to read. ENOENT: whoever asked has been killed. ENODEV: unmounted. */
function unlessGone<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== undefined && ["EAGAIN", "ENOENT", "ENODEV"].includes(code)) return undefined;
    throw error;
  }
}
