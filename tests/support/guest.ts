// Linux guests with a device from any back-end, a disk unless told otherwise. Tests import this file only.
export { CONSOLE, DISK, GPIO, type GuestDevice, I2C, VSOCK } from "./guest-device.ts";
export { makeRootImage } from "./guest-image.ts";
export type { GuestOptions, GuestProcess, GuestResult } from "./guest-process.ts";
export {
  type QemuGuest,
  type QemuGuestOptions,
  qemuUnavailable,
  runQemuGuest,
  startQemuGuest,
} from "./guest-qemu.ts";
export * from "./guest-scripts.ts";
export { runUmlGuest, startUmlGuest, umlUnavailable } from "./guest-uml.ts";
export {
  INSTALLED_QEMU,
  QEMUS,
  type Qemu,
  SID_QEMU,
  TRIXIE_QEMU,
  withGenericKernel,
} from "./qemu-releases.ts";
