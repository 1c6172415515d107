// Linux guests with a disk from any vhost-user-blk back-end. Tests import this file only.
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
export { QEMUS, type Qemu } from "./qemu-releases.ts";
