// The library: a back-end in your own program, for a file, or for a disk or a device that you write.

export type {
  Chain,
  ChainReader,
  ChainWriter,
  ConfigSpace,
  Device,
  DeviceFacts,
  DeviceGauge,
  DeviceHost,
  DeviceMemory,
  DeviceMessage,
  DeviceQueue,
  KindData,
  MemoryFile,
  QueueSpec,
  Recovery,
  RequestKind,
  Terminal,
  VirtioDevice,
} from "../devices/device.ts";
export { QueueStopped, ShortChain } from "../devices/device.ts";
export type { BlockDisk } from "../engines/block-disk.ts";
export type { DiskOperation } from "../engines/disk-failure.ts";
export type { EngineName } from "../engines/engine.ts";
export { BusyError, ProtocolError, StartError } from "../errors.ts";
export type { Log, LogLine } from "../process/log.ts";
export { FileDisk, type FileDiskOptions } from "../storage/file/file-disk.ts";
export { MemoryDisk } from "../storage/memory.ts";
export type { OverlayOptions } from "../storage/overlay/files.ts";
export { OverlayDisk } from "../storage/overlay/overlay-disk.ts";
export type { EntranceOptions, FileOptions, ServeDeviceOptions, ServeOptions } from "./serve-options.ts";
export { type DeviceStats, Server, type ServerEvents, type Stats, serve } from "./server.ts";
