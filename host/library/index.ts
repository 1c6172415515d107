// The library: a back-end in your own program, for a file or for a disk that you write.

export type { BlockDisk } from "../engines/block-disk.ts";
export type { DiskOperation } from "../engines/disk-failure.ts";
export { BusyError, ProtocolError, StartError } from "../errors.ts";
export type { Log, LogLine } from "../process/log.ts";
export { FileDisk, type FileDiskOptions } from "../storage/file/file-disk.ts";
export { MemoryDisk } from "../storage/memory.ts";
export type { OverlayOptions } from "../storage/overlay/files.ts";
export { OverlayDisk } from "../storage/overlay/overlay-disk.ts";
export type { FileOptions, ServeOptions } from "./serve-options.ts";
export { Server, type ServerEvents, type Stats, serve } from "./server.ts";
