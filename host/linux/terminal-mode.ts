// The mode of a terminal (termios(3)): raw, in which bytes pass as they are, and back.
import * as libc from "./libc.ts";

const TCGETS = 0x5401;
const TCSETS = 0x5402;

/** struct termios of the kernel: four words of flags, the line discipline, control characters. */
const TERMIOS_SIZE = 36;
const TERMIOS_IFLAG = 0;
const TERMIOS_OFLAG = 4;
const TERMIOS_LFLAG = 12;
const TERMIOS_VTIME = 17 + 5;
const TERMIOS_VMIN = 17 + 6;

/** Returns what sets the terminal back to how it was. Throws SystemError. */
export function makeRaw(fd: number): () => void {
  const before = Buffer.alloc(TERMIOS_SIZE);
  libc.checked("ioctl(TCGETS)", libc.ioctl(fd, TCGETS, before));
  const raw = Buffer.from(before);
  for (const flags of [TERMIOS_IFLAG, TERMIOS_OFLAG, TERMIOS_LFLAG]) raw.writeUInt32LE(0, flags);
  // A read waits for a byte.
  raw.writeUInt8(1, TERMIOS_VMIN);
  raw.writeUInt8(0, TERMIOS_VTIME);
  libc.checked("ioctl(TCSETS)", libc.ioctl(fd, TCSETS, raw));
  return () => {
    // A terminal that has gone needs nothing.
    libc.ioctl(fd, TCSETS, before);
  };
}
