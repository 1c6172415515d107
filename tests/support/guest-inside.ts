// A guest that runs programs of ours: it sees this machine's file system, with Node and the build in it, and can change nothing of it.
// For the host's half of devices whose hardware a kernel of its own has to simulate.
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type GuestDevice,
  type GuestResult,
  INSTALLED_QEMU,
  runQemuGuest,
  withGenericKernel,
} from "./guest.ts";
import { ROOT } from "./sources.ts";

/** This machine's own QEMU: others see another release's programs. */
export const QEMU_INSIDE = withGenericKernel(INSTALLED_QEMU);

const NOTHING: GuestDevice = { virtioId: 0, modules: [], isThere: "-d /sys/bus/virtio" };

const DISK_BYTES = 1 << 20;
const MEMORY_MIB = 1536;
/** A daemon, under emulation, on a machine that has much else to do. */
const START_MS = 600_000;

export interface Inside {
  /** Of the generic kernel, beside what the file system needs. */
  modules: readonly string[];
  /** Before the program runs: makes the hardware. It can be seen at the same places by the program. */
  script: string;
  /** In build/tests, without its ending. Its status is the guest's, and what it says is on the console. */
  program: string;
  timeoutMs: number;
}

export async function runInside({ modules, script, program, timeoutMs }: Inside): Promise<GuestResult> {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  const imagePath = join(directory, "image");
  writeFileSync(imagePath, "");
  truncateSync(imagePath, DISK_BYTES);
  try {
    return await runQemuGuest({
      qemu: QEMU_INSIDE,
      imagePath,
      device: NOTHING,
      modules: ["9pnet_virtio", "9p", ...modules],
      memoryMiB: MEMORY_MIB,
      script: `${script}${runFromHost(program)}`,
      timeoutMs,
      extraArgs: [
        ["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"],
        ["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"],
        // The core's SIMD is more than the processor has that guests have otherwise.
        ["-cpu", "max,-cx16"],
      ].flat(),
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** The project is at /mnt: where it is on this machine may be below /tmp, which the guest has for itself. */
const runFromHost = (program: string) => `
mkdir -p /run/host /dev/shm
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose host /run/host
mount -o bind /run/host${ROOT} /run/host/mnt
mount -t tmpfs tmp /run/host/tmp
mount -t tmpfs shm /dev/shm
for directory in proc sys dev; do mount -o rbind /$directory /run/host/$directory; done
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/tmp TMPDIR=/tmp VRINGD_TEST_START_MS=${START_MS}
exec chroot /run/host ${process.execPath} /mnt/build/tests/${program}.mjs
`;
