// Pseudo-terminals (pty(7)): the side of whoever plays the terminal. It knows nothing of what goes over it.
import { closeSync, constants, openSync } from "node:fs";
import * as libc from "./libc.ts";
import { makeRaw } from "./terminal-mode.ts";

const TIOCGWINSZ = 0x5413;
const TIOCGPTN = 0x80045430;
const TIOCSPTLCK = 0x40045431;

const { O_NOCTTY, O_NONBLOCK, O_RDWR } = constants;

/** Of a terminal (TIOCGWINSZ). */
export interface WindowSize {
  /** Characters of a row. */
  cols: number;
  /** Rows of characters. */
  rows: number;
}

/**
 * A new pseudo-terminal, raw, which nobody has opened at its other side, `path`. The descriptor never waits. It is hung up whenever
 * nobody has the other side open (isHungUp). Throws SystemError.
 */
export function openPty(): { fd: number; path: string } {
  const fd = openSync("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
  try {
    // grantpt(3) has nothing to do: devpts gives it the right owner.
    libc.checked("ioctl(TIOCSPTLCK)", libc.ioctl(fd, TIOCSPTLCK, Buffer.alloc(4)));
    const number = Buffer.alloc(4);
    libc.checked("ioctl(TIOCGPTN)", libc.ioctl(fd, TIOCGPTN, number));
    const path = `/dev/pts/${number.readUInt32LE()}`;
    leaveRaw(path);
    return { fd, path };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** As whoever has the other side open has set it; 0 by 0 until then. */
export function windowSize(fd: number): WindowSize {
  const size = Buffer.alloc(8); // rows u16, cols u16, pixels
  libc.checked("ioctl(TIOCGWINSZ)", libc.ioctl(fd, TIOCGWINSZ, size));
  return { cols: size.readUInt16LE(2), rows: size.readUInt16LE(0) };
}

/** Whoever opens it would see each byte twice otherwise, the echo of a guest's terminal and this one's. */
function leaveRaw(path: string): void {
  const fd = openSync(path, O_RDWR | O_NOCTTY);
  try {
    makeRaw(fd);
  } finally {
    closeSync(fd);
  }
}
