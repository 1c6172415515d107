// Stands in for koffi's package of native code: loads the copy that is within the executable. The dynamic loader wants a
// file, so it gets one without a name, of which nothing is left however we end.
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { getRawAsset } from "node:sea";
import { getEnvironmentData, setEnvironmentData } from "node:worker_threads";

/** open(2); Node has no name for it. It implies O_DIRECTORY, whose value depends on the architecture. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

/** Any but those that are mounted noexec, or can't be written to. */
const DIRECTORIES = [...new Set(["/dev/shm", tmpdir(), "/tmp", "/var/tmp", "/run"])];

/** Where threads find the file that the first has loaded. */
const SHARED = "vringd: descriptor of koffi.node";

interface NativeModule {
  exports: object;
}

export function loadNative(): object {
  const shared = getEnvironmentData(SHARED);
  if (typeof shared === "number") return exportsOf(shared);
  for (const directory of DIRECTORIES) {
    const exports = loadThrough(directory);
    if (exports !== undefined) return exports;
  }
  // Not thrown: koffi would catch it, and say something else.
  process.stderr.write(
    `vringd: can't load native code by way of ${DIRECTORIES.join(", ")}: all are noexec or can't be written to; ` +
      "set TMPDIR to a directory that allows both\n",
  );
  process.exit(1);
}

function loadThrough(directory: string): object | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(directory, O_TMPFILE | constants.O_RDWR, 0o700);
    writeAll(fd, new Uint8Array(getRawAsset("koffi.node") as ArrayBuffer));
    const exports = exportsOf(fd);
    setEnvironmentData(SHARED, fd);
    return exports;
  } catch {
    if (fd !== undefined) closeSync(fd);
    return undefined;
  }
}

function exportsOf(fd: number): object {
  const module: NativeModule = { exports: {} };
  process.dlopen(module, `/proc/self/fd/${fd}`);
  return module.exports;
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written);
}
