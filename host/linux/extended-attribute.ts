// Extended attributes of open files (xattr(7)).
import * as libc from "./libc.ts";

const VALUE_MAX = 256;

/** Undefined if there is none, or none can be. */
export function extendedAttribute(fd: number, name: string): string | undefined {
  const value = Buffer.alloc(VALUE_MAX);
  const length = Number(libc.fgetxattr(fd, name, value, value.length));
  return length < 0 ? undefined : value.toString("latin1", 0, length);
}

/** False if the file, its file system or our rights don't allow it. */
export function setExtendedAttribute(fd: number, name: string, value: string): boolean {
  const bytes = Buffer.from(value, "latin1");
  return libc.fsetxattr(fd, name, bytes, bytes.length, 0) === 0;
}

/** Does nothing where there is none. Throws SystemError if it stays. */
export function removeExtendedAttribute(fd: number, name: string): void {
  if (extendedAttribute(fd, name) === undefined) return;
  libc.checked("fremovexattr", libc.fremovexattr(fd, name));
}
