// Guests of user-mode Linux: the kernel is a process and itself the vhost-user front-end. One queue, split ring.
import { execFileSync } from "node:child_process";
import { accessSync, constants, readFileSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { DISK } from "./guest-device.ts";
import { buildInitramfs, imageUnavailable } from "./guest-image.ts";
import {
  DEFAULT_MEMORY_MIB,
  type GuestOptions,
  GuestProcess,
  type GuestResult,
  makeGuestDirectory,
} from "./guest-process.ts";
import { findCompiler } from "./runtimes.ts";
import { findProgram } from "./skip.ts";

const XSTATE_SOURCE = fileURLToPath(new URL("../../tests/guests/uml-xstate.c", import.meta.url));

/** The reason why runUmlGuest cannot work here. */
export function umlUnavailable(): string | undefined {
  if (findProgram("linux") === undefined) return "user-mode-linux is not installed";
  try {
    accessSync(join(modulesDirectory(), "modules.dep"));
  } catch {
    return "user-mode-linux cannot run here, or its modules are missing";
  }
  return imageUnavailable() ?? (hasAmx() ? findCompiler().missing : undefined);
}

export async function runUmlGuest(options: GuestOptions): Promise<GuestResult> {
  return startUmlGuest(options).exit();
}

export function startUmlGuest(options: GuestOptions): GuestProcess {
  const { socketPath, timeoutMs, device = DISK, memoryMiB = DEFAULT_MEMORY_MIB } = options;
  const directory = makeGuestDirectory(memoryDirectory(memoryMiB));
  const initramfs = join(directory, "initramfs");
  writeFileSync(initramfs, buildInitramfs({ ...options, modulesDirectory: modulesDirectory(), modules: [] }));
  const args = [
    `mem=${memoryMiB}M`,
    `initrd=${initramfs}`,
    `virtio_uml.device=${socketPath}:${device.virtioId}`,
    `uml_dir=${directory}`,
    "umid=guest",
    "con=null",
    "con0=fd:0,fd:1",
    "quiet",
    "printk.devkmsg=on",
    "panic=-1",
    ...(options.kernelArguments ?? []),
  ];
  // The guest's memory is a file that UML makes in TMPDIR.
  const env = { TMPDIR: directory, ...(hasAmx() && { LD_PRELOAD: buildXstate(directory) }) };
  return new GuestProcess({ command: "linux", args, directory, env, timeoutMs });
}

/** UML before Linux 6.13 can't run a process on such a processor. */
function hasAmx(): boolean {
  return /^flags\s*:.* amx_tile\b/m.test(readFileSync("/proc/cpuinfo", "utf8"));
}

function buildXstate(directory: string): string {
  const library = join(directory, "uml-xstate.so");
  execFileSync(findCompiler().path!, ["-O2", "-shared", "-fPIC", XSTATE_SOURCE, "-o", library]);
  return library;
}

function modulesDirectory(): string {
  const release = execFileSync("linux", ["--version"], { encoding: "utf8" }).trim();
  return join("/usr/lib/uml/modules", release);
}

/** Memory in a file on a real disk is slow; a container's /dev/shm is often too small, and fails late. */
function memoryDirectory(memoryMiB: number): string {
  try {
    accessSync("/dev/shm", constants.W_OK);
    const { bavail, bsize } = statfsSync("/dev/shm");
    return bavail * bsize > 2 * memoryMiB * 2 ** 20 ? "/dev/shm" : tmpdir();
  } catch {
    return tmpdir();
  }
}
