// What the system says of itself: versions, limits, devices.
import { closeSync, constants, openSync, readFileSync } from "node:fs";
import { release } from "node:os";
import manifest from "../../../package.json" with { type: "json" };
import { reasonOf } from "../../errors.ts";
import { formatBytes } from "../units.ts";
import { type Finding, note, ok, problem } from "./finding.ts";
import { limitOf } from "./limits.ts";
import { processes } from "./processes.ts";

/** With IORING_SETUP_NO_MMAP. */
const URING_KERNEL = [6, 5];
/** Open file description locks 3.15, memfd_create 3.17. */
const LEAST_KERNEL = [3, 17];

/** Descriptors of one front-end with all queues and as many regions of memory as it may have, and the daemon's own. */
const FILES_WANTED = 1024;
const FILES_LEAST = 128;

/** What systemd gives everybody; a worker's ring takes some 150 KiB. */
const MEMLOCK_WANTED = 8 << 20;

export function machineFindings(): Finding[] {
  return [node(), kernel(), processor(), openFiles(), processes(), lockedMemory(), hugePages(), kvm()];
}

function node(): Finding {
  const wanted = manifest.engines.node.replace(">=", "");
  const { node: version } = process.versions;
  if (isAtLeast(version, wanted.split(".").map(Number))) return ok("Node", version);
  return problem("Node", `${version} is too old`, `install Node ${wanted} or later`);
}

function kernel(): Finding {
  const version = release();
  if (!isAtLeast(version, LEAST_KERNEL))
    return problem("kernel", `Linux ${version} is too old`, "use Linux 6.5 or later");
  if (isAtLeast(version, URING_KERNEL)) return ok("kernel", `Linux ${version}`);
  return note("kernel", `Linux ${version}`, "Linux 6.5 or later has the io_uring that makes disks fast");
}

function isAtLeast(version: string, least: readonly number[]): boolean {
  const numbers = version.split(/[.-]/).map(Number);
  for (const [i, number] of least.entries()) {
    if (numbers[i]! > number) return true;
    if (!(numbers[i]! >= number)) return false;
  }
  return true;
}

function processor(): Finding {
  if (process.arch === "x64") return ok("processor", "x86-64");
  return note("processor", process.arch, "vringd is tested on x86-64 alone");
}

/** Node has raised it as far as it may. */
function openFiles(): Finding {
  const limit = limitOf("Max open files");
  if (limit < FILES_LEAST)
    return problem(
      "open files",
      `no more than ${limit}`,
      `raise the limit to ${FILES_WANTED}: ulimit -Hn, LimitNOFILE=`,
    );
  if (limit < FILES_WANTED)
    return note(
      "open files",
      `no more than ${limit}`,
      `${FILES_WANTED} are enough for any guest: ulimit -Hn, LimitNOFILE=`,
    );
  return ok("open files", limit === Number.POSITIVE_INFINITY ? "no limit" : `up to ${limit}`);
}

/** Rings in our own memory count as locked for users without CAP_IPC_LOCK (IORING_SETUP_NO_MMAP). Whether they fit is tried below. */
function lockedMemory(): Finding {
  const limit = limitOf("Max locked memory");
  const text = limit === Number.POSITIVE_INFINITY ? "no limit" : `up to ${formatBytes(limit)}`;
  if (limit >= MEMLOCK_WANTED) return ok("memlock", text);
  const advice = `io_uring's rings count for users who aren't root: raise it to ${formatBytes(MEMLOCK_WANTED)}, ulimit -l, LimitMEMLOCK=`;
  return note("memlock", text, advice);
}

function hugePages(): Finding {
  const meminfo = readFileSync("/proc/meminfo", "latin1");
  const field = (name: string) => Number(new RegExp(`^${name}: +(\\d+)`, "m").exec(meminfo)?.[1] ?? 0);
  const total = field("HugePages_Total");
  if (total === 0) {
    const advice = "only for guests with memory on huge pages: set vm.nr_hugepages";
    return note("huge pages", "none are set aside", advice);
  }
  return ok(
    "huge pages",
    `${field("HugePages_Free")} of ${total} free, ${formatBytes(field("Hugepagesize") * 1024)} each`,
  );
}

function kvm(): Finding {
  try {
    closeSync(openSync("/dev/kvm", constants.O_RDWR));
    return ok("/dev/kvm", "can be used by guests");
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === "ENOENT";
    const advice = isMissing
      ? "vringd does without, but guests are emulated: turn virtualization on, or load kvm_intel or kvm_amd"
      : "vringd does without, but guests are emulated: join the group that owns it, mostly kvm";
    return note("/dev/kvm", `can't be used: ${reasonOf(error)}`, advice);
  }
}
