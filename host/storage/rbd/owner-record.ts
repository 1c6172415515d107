// Which process of this host has the lock of an image, by the address that its cluster knows it by: so that its successor, and nobody
// else, breaks the lock of one that was killed. A file in the state directory, since what lies beside a control socket goes with the
// unit's runtime directory when a service is restarted.
import { readFileSync, readlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { shownText } from "../../process/shown.ts";
import { makeStateDirectory, stateDirectories } from "../../process/state-directories.ts";
import { digestOf } from "../file/identity.ts";

const DIRECTORY = "rbd-owners";
/** Field 22 of /proc/PID/stat, counted behind the name in parentheses: in clock ticks since the boot. */
const START_TIME = 19;

/** "unknown": of another host, or one that can't be told apart from it. */
export type OwnerState = "lives" | "gone" | "unknown";

interface Owner {
  address: string;
  pid: number;
  startTime: string;
  /** Pids mean nothing in another namespace, or on another host. */
  place: string;
}

export class OwnerRecord {
  private readonly name: string;

  /** What the image is, in parts that last. */
  constructor(identity: readonly string[]) {
    this.name = digestOf(identity);
  }

  /** This process has the lock. False if nothing could be written. */
  write(address: string): boolean {
    const [directory] = stateDirectories();
    const here = place();
    if (directory === undefined || here === undefined) return false;
    const owner: Owner = { address, pid: process.pid, startTime: startTimeOf(process.pid), place: here };
    try {
      writeFileSync(join(makeStateDirectory(directory, DIRECTORY), this.name), JSON.stringify(owner), {
        mode: 0o600,
      });
      return true;
    } catch {
      return false;
    }
  }

  /** What has become of the process that the cluster knows by this address, and its pid if it lives. */
  stateOf(address: string): { state: OwnerState; pid?: number } {
    const owner = this.read();
    if (owner?.address !== address || owner.place !== place()) return { state: "unknown" };
    const { pid } = owner;
    return isAlive(owner) ? { state: "lives", pid } : { state: "gone" };
  }

  /** The process that the cluster knows by this address has the lock no more. */
  remove(address: string): void {
    if (this.read()?.address !== address) return;
    for (const path of this.paths()) {
      try {
        unlinkSync(path);
      } catch {
        // Not there.
      }
    }
  }

  private paths(): string[] {
    return stateDirectories().map((directory) => join(directory, DIRECTORY, this.name));
  }

  private read(): Owner | undefined {
    for (const path of this.paths()) {
      try {
        return JSON.parse(readFileSync(path, "utf8")) as Owner;
      } catch {
        // None there, or one that was cut off when the host went down.
      }
    }
    return undefined;
  }
}

/** In doubt it lives: a process of another user's may hide when it was started. */
function isAlive({ pid, startTime }: Owner): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  const found = startTimeOf(pid);
  return found === "" || found === startTime;
}

function startTimeOf(pid: number): string {
  return (
    shownText(`/proc/${pid}/stat`)
      .replace(/^.*\) /s, "")
      .split(" ")[START_TIME] ?? ""
  );
}

/** Undefined where nothing tells this host from another. */
function place(): string | undefined {
  // A sandbox may hide the one, and a machine without systemd lacks the other.
  const names = [shownText("/proc/sys/kernel/random/boot_id").trim(), shownText("/etc/machine-id").trim()];
  try {
    return names.join("") === "" ? undefined : [...names, readlinkSync("/proc/self/ns/pid")].join(" ");
  } catch {
    return undefined;
  }
}
