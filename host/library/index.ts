// The library: a back-end in your own program, for a file, or for a disk or a device that you write.

export type {
  Activation,
  Chain,
  ChainReader,
  ChainWriter,
  ConfigSpace,
  Device,
  DeviceCommand,
  DeviceFacts,
  DeviceGauge,
  DeviceHost,
  DeviceMemory,
  DeviceMessage,
  DeviceQueue,
  DeviceState,
  KindData,
  MemoryFile,
  QueueSpec,
  Recovery,
  RequestKind,
  Screen,
  ScreenRect,
  ScreenUpdate,
  Succession,
  Terminal,
  VirtioDevice,
  WatchedScreen,
} from "../devices/device.ts";
export { NotActivated, QueueStopped, ShortChain } from "../devices/device.ts";
export type { BlockDisk } from "../engines/block-disk.ts";
export type { DiskOperation } from "../engines/disk-failure.ts";
export type { EngineName } from "../engines/engine.ts";
export { BusyError, ProtocolError, StartError } from "../errors.ts";
export type { WindowSize } from "../linux/pty.ts";
export type { Log, LogLine } from "../process/log.ts";
export { FileDisk, type FileDiskOptions } from "../storage/file/file-disk.ts";
export { MemoryDisk } from "../storage/memory.ts";
export type { OverlayOptions } from "../storage/overlay/files.ts";
export { OverlayDisk } from "../storage/overlay/overlay-disk.ts";
export type { EntranceOptions, FileOptions, ServeDeviceOptions, ServeOptions } from "./serve-options.ts";
export { type DeviceStats, Server, type ServerEvents, type Stats, serve } from "./server.ts";
