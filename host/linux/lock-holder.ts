// Who holds a lock: open file description locks name no process, but /proc shows them beside each descriptor (proc(5)).
import { fstatSync, readdirSync } from "node:fs";
import { basename } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { shownNames, shownText } from "../process/shown.ts";

export interface Process {
  pid: number;
  name: string;
}

/** PF_EXITING (include/linux/sched.h), as field 9 of /proc/PID/stat shows it. */
const EXITING = 4;
/** SIGKILL in a set of signals. */
const KILL_PENDING = 1 << 8;

/**
 * A process that lives and has an open file description lock on the open file; those of other
 * users stay hidden. One that was killed and waits for its I/O in the kernel doesn't count as living.
 */
export function findLockHolder(fd: number): Process | undefined {
  const file = lockedName(fd);
  const pid = allPids().find((candidate) => isHolder(candidate, file));
  return pid === undefined ? undefined : processOf(pid);
}

/** The same, while the event loop goes on: there may be thousands of processes. */
export async function lookForLockHolder(fd: number): Promise<Process | undefined> {
  const file = lockedName(fd);
  for (const pid of allPids()) {
    if (isHolder(pid, file)) return processOf(pid);
    await nextTurn();
  }
  return undefined;
}

function allPids(): string[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name));
}

function isHolder(pid: string, file: string): boolean {
  return holdsLock(pid, file) && !isEnding(pid);
}

function processOf(pid: string): Process {
  return { pid: Number(pid), name: nameOf(pid) };
}

const INTERPRETERS = /^(node|nodejs|deno|bun|python[\d.]*|perl|ruby|java|sh|bash|dash)$/;
const COMMAND_LENGTH_MAX = 100;

/** What its user would know it by: an interpreter's name says nothing, nor does ours say which disk it is. */
function nameOf(pid: string): string {
  const name = shownText(`/proc/${pid}/comm`).trim();
  const words = Buffer.from(shownText(`/proc/${pid}/cmdline`), "latin1")
    .toString()
    .split("\0")
    .join(" ")
    .trim();
  const isTold = INTERPRETERS.test(name) || INTERPRETERS.test(basename(words.split(" ")[0]!));
  if (words === "" || !(isTold || /^vringd-\w+ /.test(words))) return name;
  const line = words.replace(/\p{Cc}/gu, "?");
  return line.length > COMMAND_LENGTH_MAX ? `${line.slice(0, COMMAND_LENGTH_MAX)}...` : line;
}

/** The name, in parentheses, may hold anything. Behind it: the state, which is field 3, and so on. */
export function isEnding(pid: string): boolean {
  const fields = shownText(`/proc/${pid}/stat`).replace(/.*\) /s, "").split(" ");
  const flags = Number(fields[9 - 3]);
  const pending = Number(fields[31 - 3]);
  return (flags & EXITING) !== 0 || (pending & KILL_PENDING) !== 0;
}

/**
 * How a lock names the file: "08:01:1234", the device of its file system in hexadecimal and the inode. stat() may show
 * another device (btrfs, overlayfs), so it is looked up by the mount; without it, the end of the name is all there is.
 */
function lockedName(fd: number): string {
  const inode = fstatSync(fd, { bigint: true }).ino;
  const mount = /^mnt_id:\s*(\d+)$/m.exec(shownText(`/proc/self/fdinfo/${fd}`))?.[1];
  const device = new RegExp(`^${mount} \\d+ (\\d+):(\\d+) `, "m").exec(shownText("/proc/self/mountinfo"));
  if (device === null) return `:${inode}`;
  const [major, minor] = device.slice(1).map((number) => Number(number).toString(16).padStart(2, "0"));
  return ` ${major}:${minor}:${inode}`;
}

function holdsLock(pid: string, file: string): boolean {
  return shownNames(`/proc/${pid}/fdinfo`).some((fd) =>
    shownText(`/proc/${pid}/fdinfo/${fd}`)
      .split("\n")
      .some((line) => isLockOn(line, file)),
  );
}

/** "lock:	1: OFDLCK  ADVISORY  READ -1 08:01:1234 100 100". */
function isLockOn(line: string, file: string): boolean {
  return line.startsWith("lock:") && line.includes(" OFDLCK ") && line.includes(`${file} `);
}
