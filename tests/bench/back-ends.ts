// The back-ends that are compared, and how each is started.
import { storageDaemonArgs, storageDaemonVersion } from "../support/storage-daemon.ts";
import { PROGRAM } from "../support/vringd.ts";
import type { Cell } from "./grid.ts";

export interface DiskSetup {
  image: string;
  socketPath: string;
  direct: boolean;
  packed: boolean;
  queues: number;
}

export interface BackEnd {
  name: string;
  command(setup: DiskSetup): string[];
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
  const backEnds = [vringd(OURS, ["--engine=io_uring"])];
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
    }
  }
  return { backEnds, missing, versions };
}

function vringd(name: string, args: readonly string[]): BackEnd {
  return { name, command: (setup) => vringdCommand(setup, args), whyNot: () => undefined };
}

export function vringdCommand(
  { image, socketPath, direct, packed, queues }: DiskSetup,
  args: readonly string[],
  node: readonly string[] = [process.execPath],
  program = PROGRAM,
): string[] {
  return [
    ...node,
    program,
    `--blk-file=${image}`,
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
