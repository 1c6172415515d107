// The QEMUs that guests are tested on: this machine's own, and those of other Debian releases, each with its release's kernel.
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

export type QemuVersion = readonly [major: number, minor: number];

export interface GuestKernel {
  path: string;
  /** The one with modules.dep in it. */
  modulesDirectory: string;
}

export interface Qemu {
  /** Whose it is. */
  owner: string;
  /** Starts it; its arguments follow. */
  command: readonly string[];
  findKernel(): GuestKernel | undefined;
  /** How it comes onto a machine that lacks it. */
  recipe: string;
}

const PROGRAM = "qemu-system-x86_64";

export const INSTALLED_QEMU: Qemu = {
  owner: "this machine",
  command: [PROGRAM],
  findKernel: () => newestKernel("/"),
  recipe: `install ${PROGRAM} and linux-image-cloud-amd64`,
};

/** Where tests/guests/make-root makes roots of other releases; they outlive a clone. */
const ROOTS = process.env.VRINGD_TEST_ROOTS ?? "/var/cache/vringd/roots";

/** The newest. */
export const SID_QEMU = qemuOf("sid");

/** QEMU 10. */
export const TRIXIE_QEMU = qemuOf("trixie");

export const QEMUS: readonly Qemu[] = [INSTALLED_QEMU, TRIXIE_QEMU, SID_QEMU];

const DRIVERS = "trixie-drivers";

/** The same with Debian 13's generic kernel, which has drivers for all devices, and those that Debian does not build. */
export function withGenericKernel(qemu: Qemu): Qemu {
  return {
    ...qemu,
    findKernel: () => newestKernel(join(ROOTS, DRIVERS)),
    recipe: `${qemu.recipe}, and run tests/guests/make-root ${ROOTS} ${DRIVERS} as root`,
  };
}

/** Undefined where it can't run. */
export function qemuVersion({ command }: Qemu): QemuVersion | undefined {
  const { stdout } = spawnSync(command[0]!, [...command.slice(1), "--version"], { encoding: "utf8" });
  const match = /version (\d+)\.(\d+)/.exec(stdout ?? "");
  return match === null ? undefined : [Number(match[1]), Number(match[2])];
}

/**
 * Of a socket chardev: connects again this long after the other side went away. QEMU has it in milliseconds since 9.2,
 * and the option in seconds will go.
 */
export function reconnectOption([major, minor]: QemuVersion, seconds: number): string {
  const isInMs = major > 9 || (major === 9 && minor >= 2);
  return isInMs ? `reconnect-ms=${seconds * 1000}` : `reconnect=${seconds}`;
}

/** What starts a program of Debian sid's, where its root has it. */
export function inSid(program: string): string[] | undefined {
  const root = join(ROOTS, "sid");
  const path = ["/usr/bin", "/usr/libexec"].map((directory) => join(directory, program));
  const found = path.find((each) => existsSync(join(root, each)));
  return found === undefined ? undefined : inRoot(root, found);
}

/** Only programs and settings are that release's: sockets, other files and process ids stay this machine's. */
function inRoot(root: string, program: string): string[] {
  const enter = `mount --bind '${root}/etc' /etc && mount --bind '${root}/usr' /usr && exec "$@"`;
  return ["unshare", "--mount", "--propagation=private", "sh", "-c", enter, "sh", program];
}

function qemuOf(suite: string): Qemu {
  const root = join(ROOTS, suite);
  return {
    owner: `Debian ${suite}`,
    command: inRoot(root, PROGRAM),
    findKernel: () => newestKernel(join(root, "kernels/cloud-amd64")),
    recipe: `run tests/guests/make-root ${ROOTS} ${suite} as root`,
  };
}

/** The newest cloud kernel, which boots soonest, or else the newest one. */
function newestKernel(root: string): GuestKernel | undefined {
  const modules = join(root, "lib/modules");
  const releases = existsSync(modules) ? readdirSync(modules) : [];
  const kernels = releases
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }))
    .flatMap((release) => {
      const modulesDirectory = join(modules, release);
      // Debian after 13 has the kernel beside its modules.
      const paths = [join(root, `boot/vmlinuz-${release}`), join(modulesDirectory, "vmlinuz")];
      const path = paths.find(isReadable);
      return path !== undefined && isReadable(join(modulesDirectory, "modules.dep"))
        ? [{ path, modulesDirectory }]
        : [];
    });
  return kernels.findLast(({ modulesDirectory }) => modulesDirectory.includes("cloud")) ?? kernels.at(-1);
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
