// The back-ends that are compared, and how each is started.
import { storageDaemonArgs, storageDaemonVersion } from "../support/storage-daemon.ts";
import { PROGRAM } from "../support/vringd.ts";

export interface DiskSetup {
  image: string;
  socketPath: string;
  direct: boolean;
  packed: boolean;
  queues: number;
}

export interface BackEnd {
  name: string;
  isOurs: boolean;
  command(setup: DiskSetup): string[];
  /** Why it can't serve such a disk; undefined if it can. */
  whyNot(setup: Pick<DiskSetup, "direct" | "packed">): string | undefined;
}

/** vringd with options of its own. */
export function vringd(name: string, args: readonly string[]): BackEnd {
  return {
    name,
    isOurs: true,
    command: ({ image, socketPath, direct, packed, queues }) => [
      process.execPath,
      PROGRAM,
      `--blk-file=${image}`,
      `--socket-path=${socketPath}`,
      `--num-queues=${queues}`,
      "--log-level=warn",
      ...(direct ? ["--direct"] : []),
      ...(packed ? ["--packed"] : []),
      ...args,
    ],
    whyNot: () => undefined,
  };
}

export function storageDaemon(name: string, program: string, aio: string): BackEnd {
  return {
    name,
    isOurs: false,
    command: ({ image, socketPath, direct, queues }) => {
      const driverOptions = `aio=${aio},cache.direct=${direct ? "on" : "off"}`;
      return [program, ...storageDaemonArgs({ image, socketPath, queues, driverOptions, hasIothread: true })];
    },
    whyNot: ({ direct, packed }) => {
      if (packed) return "has no packed rings";
      return aio === "native" && !direct ? "aio=native needs O_DIRECT" : undefined;
    },
  };
}

const AIO = ["threads", "io_uring", "native"];

/** By name; `programs` are qemu-storage-daemon and others like it. Those that are absent are in `missing`. */
export function allBackEnds(
  pollUs: readonly number[],
  programs: readonly string[],
): { found: BackEnd[]; missing: string[] } {
  const found = [vringd("vringd", ["--engine=io_uring"])];
  for (const us of pollUs) found.push(vringd(`vringd-poll${us}`, ["--engine=io_uring", `--poll-us=${us}`]));
  found.push(vringd("vringd-threads", ["--engine=threads"]));
  const missing: string[] = [];
  for (const program of programs) {
    const version = storageDaemonVersion(program);
    if (version === undefined) missing.push(program);
    else for (const aio of AIO) found.push(storageDaemon(`qsd-${version}-${aio}`, program, aio));
  }
  return { found, missing };
}
