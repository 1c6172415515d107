// The program vringd-blk: what it says of itself, and its options. The library checks what it is given by the same table.
import { availableParallelism } from "node:os";
import { WORKERS_MAX } from "../../../assembly/abi/memory.ts";
import { QUEUES_MAX } from "../../../assembly/abi/queue.ts";
import { VIRTIO_BLK_ID_BYTES } from "../../../assembly/spec/virtio-blk.ts";
import { inGroup, option, toggle, type ValuesOf } from "../../options/option.ts";
import { asciiText, oneOf, path, wholeNumber } from "../../options/types.ts";
import { deviceProgram, memberName } from "../program.ts";
import { LIMIT_OPTIONS } from "./limit-options.ts";

/** As many segments as the kernel takes in one request. */
const QUEUE_SIZE_MAX = 1024;
const RANGE_SEGMENTS_MAX = 256;
const LOCK_TIMEOUT_MAX = 3600;
const POLL_US_MAX = 1000;
const WATCH_SIZE_MAX = 3600;

const disk = {
  blkFile: option({
    type: path,
    value: "PATH",
    help: 'serve this file or block device, the open descriptor "fd:N", the export of an NBD URI, or an image in a Ceph cluster, "rbd:POOL/IMAGE"; "memory:SIZE", such as memory:1G, is a disk in memory',
    required: "the file or block device to serve",
    unless: "config",
  }),
  format: option({
    type: oneOf(["raw"]),
    value: "FORMAT",
    help: '"raw" serves it whatever it holds (default: raw, and images of other formats are refused)',
  }),
  overlay: option({
    type: path,
    value: "PATH",
    help: "keep what the guest writes in this file, made if there is none; --blk-file stays as it is",
  }),
  readOnly: toggle("never write to it; the guest sees a read-only disk"),
  force: toggle("write to a device that the host has mounted, or that others hold"),
  serial: option({
    type: asciiText(VIRTIO_BLK_ID_BYTES),
    value: "TEXT",
    help: "serial number that the guest sees, up to 20 characters (default: made from inode and file system, or what identifies the device)",
  }),
  blockSize: option({
    type: oneOf([512, 1024, 2048, 4096]),
    value: "BYTES",
    help: "block size that the guest sees: 512, 1024, 2048 or 4096 (default: 512, whatever the device has)",
  }),
  direct: toggle("go past the host's page cache, with O_DIRECT"),
  discard: option({
    type: oneOf(["unmap", "ignore"]),
    value: "HOW",
    help: 'what a discard does: "unmap" gives the space back, "ignore" does nothing',
    default: "unmap",
  }),
  rangeSegments: option({
    type: wholeNumber(1, RANGE_SEGMENTS_MAX),
    value: "N",
    help: "segments that one discard or write-zeroes request may have",
    default: 1,
  }),
  lock: option({
    type: oneOf(["auto", "off"]),
    value: "WHEN",
    help: '"auto" keeps other writers away, as QEMU does, wherever the file system has locks, and always from an RBD image; "off" trusts you',
    default: "auto",
  }),
  lockTimeout: option({
    type: wholeNumber(0, LOCK_TIMEOUT_MAX),
    value: "SECONDS",
    help: "how long to wait for the I/O of a killed process that still locks the file, for a client that has the lock of an RBD image, or for another process to hand over the disk",
    default: 30,
  }),
  incoming: toggle(
    "the disk is another process's, which hands it over when its guest is moved here: lock and write it from the first ring's start",
  ),
  watchSize: option({
    type: wholeNumber(0, WATCH_SIZE_MAX),
    value: "SECONDS",
    help: "look so often whether the file or device has grown, and tell the guest; 0: only when told to (vringd ctl NAME resize)",
    default: 0,
  }),
};

const queues = {
  numQueues: option({
    type: wholeNumber(1, QUEUES_MAX),
    value: "N",
    help: "queues that the guest may use; those that it doesn't cost nothing",
    default: QUEUES_MAX,
  }),
  queueSize: option({
    type: wholeNumber(4, QUEUE_SIZE_MAX),
    value: "N",
    help: "queue size to expect: requests may have N - 2 segments; queues of any size are served",
    default: 128,
  }),
  engine: option({
    type: oneOf(["auto", "io_uring", "threads"]),
    value: "NAME",
    help: 'how to do I/O: "io_uring", "threads", or "auto" for the first that works',
    default: "auto",
  }),
  threads: option({
    type: wholeNumber(1, WORKERS_MAX),
    value: "N",
    help: `worker threads of a disk, which share its queues, up to ${WORKERS_MAX} (default: one a queue, up to the cores; with --config one)`,
  }),
  pollUs: option({
    type: wholeNumber(0, POLL_US_MAX),
    value: "N",
    help: "microseconds that a busy thread may look for more before it sleeps (io_uring only); an idle one always sleeps",
    default: 32,
  }),
};

/** What each disk may have of its own. */
const DISK_OPTIONS = {
  ...inGroup("The disk", disk),
  ...inGroup("Queues and threads", queues),
  ...LIMIT_OPTIONS,
};

export type DiskValues = ValuesOf<typeof DISK_OPTIONS>;

/** One of several disks, as a file lists it, and as one is added. */
export const MEMBER_OPTIONS = {
  name: option({
    type: memberName,
    value: "NAME",
    help: "what it is called: in the log, in metrics, and in the name of its control socket",
    required: "what the disk is called",
  }),
  socket: option({
    type: path,
    value: "PATH",
    help: "where its front-end connects: a Unix socket at this path, or an abstract name, @NAME",
    required: "where the disk's front-end connects",
  }),
  ...DISK_OPTIONS,
};

const ofProcess = {
  standby: toggle(
    "keep a second process that takes over all disks and sockets as soon as this one has died, in milliseconds",
  ),
  config: option({
    type: path,
    value: "FILE",
    help: "serve the disks that this file lists, as JSON, each at a socket of its own; what is given beside it holds for those that don't say it themselves",
  }),
};

export const BLOCK_OPTIONS = { ...DISK_OPTIONS, ...inGroup("The process", ofProcess) };

export type BlockValues = ValuesOf<typeof BLOCK_OPTIONS>;

/** More threads than queues would have nothing to do. */
export function threadCount({ threads, numQueues }: Pick<BlockValues, "threads" | "numQueues">): number {
  return Math.min(threads ?? availableParallelism(), numQueues, WORKERS_MAX);
}

export const program = deviceProgram({
  name: "vringd-blk",
  description: "Serves a file or a block device as a virtual machine's disk, over vhost-user.",
  capabilities: { type: "block", features: ["read-only", "blk-file"] },
  options: BLOCK_OPTIONS,
  memberOptions: MEMBER_OPTIONS,
  files: { disks: async (path) => (await import("./disks/file.ts")).checkDisksFile(path) },
  members: async (values, asked) => (await import("./disks/members.ts")).membersOf(values, asked),
  standsBy: ({ standby }) => standby,
  open: async (values, context) => (await import("./open.ts")).openDisk(values, context),
});
