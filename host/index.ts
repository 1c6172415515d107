// The library: a back-end in your own program, for a file or for a disk that you write.
export type { DiskOperation } from "./dataplane/failures.ts";
export type { BlockDisk } from "./disk/block-disk.ts";
export { FileDisk, type FileDiskOptions } from "./disk/file-disk.ts";
export { MemoryDisk } from "./disk/memory-disk.ts";
export type { OverlayOptions } from "./disk/overlay/files.ts";
export { OverlayDisk } from "./disk/overlay/overlay-disk.ts";
export { BusyError, ProtocolError, StartError } from "./errors.ts";
export type { Log, LogLine } from "./log.ts";
export type { FileOptions, ServeOptions } from "./serve-options.ts";
export { Server, type ServerEvents, type Stats, serve } from "./server.ts";
