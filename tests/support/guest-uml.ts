// Guests of user-mode Linux: the kernel is a process and itself the vhost-user front-end. One queue, split ring.
import { execFileSync } from "node:child_process";
import { accessSync, constants, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DISK } from "./guest-device.ts";
import { buildInitramfs, imageUnavailable } from "./guest-image.ts";
import {
  DEFAULT_MEMORY_MIB,
  type GuestOptions,
  GuestProcess,
  type GuestResult,
  makeGuestDirectory,
} from "./guest-process.ts";
import { findProgram } from "./skip.ts";

/** The reason why runUmlGuest cannot work here. */
export function umlUnavailable(): string | undefined {
  if (findProgram("linux") === undefined) return "user-mode-linux is not installed";
  try {
    accessSync(join(modulesDirectory(), "modules.dep"));
  } catch {
    return "user-mode-linux cannot run here, or its modules are missing";
  }
  return imageUnavailable();
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
  return new GuestProcess({ command: "linux", args, directory, env: { TMPDIR: directory }, timeoutMs });
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
