// The back-ends that are compared, and how each is started.
import { storageDaemonArgs, storageDaemonVersion } from "../support/storage-daemon.ts";
import { PROGRAM } from "../support/vringd.ts";
import type { Backing, Cell } from "./grid.ts";

export interface DiskSetup {
  backing: Backing;
  image: string;
  byteLength: number;
  /** Where the NBD server listens. */
  nbdSocketPath: string;
  /** The configuration of a cluster, and the image there. */
  rbd?: { conf: string; image: string };
  socketPath: string;
  direct: boolean;
  packed: boolean;
  queues: number;
}

export interface BackEnd {
  name: string;
  command(setup: DiskSetup): string[];
  /** Which cells it is for. */
  backing: Backing;
  /** Takes part only where a cell asks for it. */
  isSlow?: true;
  /** Why it takes no part in a cell; undefined if it does. */
  whyNot(cell: Cell): string | undefined;
}

/** What there is to compare here, and what there is not. */
export interface Field {
  backEnds: BackEnd[];
  missing: string[];
  /** Of the programs to compare with, by path. */
  versions: Record<string, string>;
}

export const OURS = "vringd";
/** vringd that never polls; the default does. */
export const OURS_SLEEPING = "vringd-poll0";
const AIO = ["threads", "io_uring", "native"];

/** `pollUs` are variants of vringd; `programs` are qemu-storage-daemon and others like it. */
export function findBackEnds(pollUs: readonly number[], programs: readonly string[]): Field {
  const backEnds = [
    vringd(OURS, ["--engine=io_uring"]),
    vringd(OURS, [], "nbd"),
    vringd(OURS, [], "memory"),
    vringd(OURS, [], "rbd"),
  ];
  const missing: string[] = [];
  const versions: Record<string, string> = {};
  for (const us of pollUs)
    backEnds.push(vringd(`vringd-poll${us}`, ["--engine=io_uring", `--poll-us=${us}`]));
  backEnds.push({ ...vringd("vringd-threads", ["--engine=threads"]), isSlow: true });
  for (const program of programs) {
    const version = storageDaemonVersion(program);
    if (version === undefined) missing.push(`${program} is not installed`);
    else if (Object.values(versions).includes(version)) missing.push(`${program} is ${version} too`);
    else {
      versions[program] = version;
      backEnds.push(...AIO.map((aio) => storageDaemon(`qsd-${version}-${aio}`, program, aio)));
      backEnds.push(...storageDaemonsWithoutFile(`qsd-${version}`, program));
    }
  }
  return { backEnds, missing, versions };
}

function vringd(name: string, args: readonly string[], backing: Backing = "file"): BackEnd {
  return {
    name,
    backing,
    command: (setup) => vringdCommand(setup, args),
    whyNot: () => undefined,
  };
}

/** What --blk-file names. */
function blkFileOf({ backing, image, byteLength, nbdSocketPath, rbd }: DiskSetup): string {
  if (rbd) return `rbd:${rbd.image}?conf=${rbd.conf}`;
  if (backing === "nbd") return `nbd+unix:///?socket=${nbdSocketPath}`;
  return backing === "memory" ? `memory:${byteLength}` : image;
}

export function vringdCommand(
  setup: DiskSetup,
  args: readonly string[],
  node: readonly string[] = [process.execPath],
  program = PROGRAM,
): string[] {
  const { socketPath, direct, packed, queues } = setup;
  return [
    ...node,
    program,
    `--blk-file=${blkFileOf(setup)}`,
    `--socket-path=${socketPath}`,
    `--num-queues=${queues}`,
    "--log-level=warn",
    ...(direct ? ["--direct"] : []),
    ...(packed ? ["--packed"] : []),
    ...args,
  ];
}

function storageDaemon(name: string, program: string, aio: string): BackEnd {
  return {
    name,
    backing: "file",
    command: ({ image, socketPath, direct, queues }) => {
      const driverOptions = `aio=${aio},cache.direct=${direct ? "on" : "off"}`;
      return [program, ...storageDaemonArgs({ image, socketPath, queues, driverOptions, hasIothread: true })];
    },
    whyNot: ({ direct, packed }) => {
      if (packed) return "has no packed rings";
      return aio === "native" && !direct ? "aio=native is for direct I/O alone" : undefined;
    },
  };
}

/** Its own NBD client, and a driver that does nothing but fill what is read with zeroes. */
function storageDaemonsWithoutFile(name: string, program: string): BackEnd[] {
  const withDriver = (driver: string, backing: Backing, blockdev: (setup: DiskSetup) => string): BackEnd => ({
    name: `${name}-${driver}`,
    backing,
    command: (setup) => {
      const { socketPath, queues } = setup;
      const args = storageDaemonArgs({ blockdev: blockdev(setup), socketPath, queues, hasIothread: true });
      return [program, ...args];
    },
    whyNot: ({ packed }) => (packed ? "has no packed rings" : undefined),
  });
  return [
    withDriver("nbd", "nbd", (setup) => `driver=nbd,server.type=unix,server.path=${setup.nbdSocketPath}`),
    withDriver("rbd", "rbd", ({ rbd }) => {
      const [pool, name] = rbd!.image.split("/");
      return `driver=rbd,pool=${pool},image=${name},conf=${rbd!.conf},cache.direct=on`;
    }),
    withDriver("null", "memory", ({ byteLength }) => `driver=null-co,size=${byteLength},read-zeroes=on`),
  ];
}
