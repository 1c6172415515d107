// A virtio device as its author sees it: queues, feature bits, config space, and what becomes of a chain. It knows no ring,
// no descriptor, no socket and no message of the protocol.
import type { Duplex } from "node:stream";
import type { WindowSize } from "../linux/pty.ts";
import type { Log } from "../process/log.ts";

/**
 * What becomes of chains that a predecessor had taken and not used when it died: done again; answered with a failure, since
 * doing them twice would harm; or taken again as if the driver had just offered them, since they hold nothing (buffers for events).
 */
export type Recovery = "repeat" | "fail" | "forget";

/** A queue of a device, as the driver and the core are to treat it. */
export interface QueueSpec {
  /** By the name that the device's chapter has for it, such as "requestq". */
  readonly name: string;
  /**
   * "all": each chain is taken as soon as the driver offers it, up to the concurrency of serve(). "asked": only as many as the
   * device asks for, by take(). Buffers that wait for events stay in their ring so, and cost nothing.
   */
  readonly credit: "all" | "asked";
  /** What becomes of chains that a dead predecessor held. */
  readonly recover: Recovery;
  /** Writes what a failure looks like to the driver and uses the chain. Left out: the chain is used with length 0. */
  fail?(chain: Chain): void;
}

/** The device's configuration space (virtio 1.4, 2.5). Offsets and lengths are in bytes. */
export interface ConfigSpace {
  /** Size of the whole space, up to 256. What lies past its end reads as zeroes. */
  readonly byteLength: number;
  /** The space as the driver sees it now. It is asked for at each read: a front-end reads all for a part. */
  read(): Uint8Array;
  /** The driver wrote `bytes` at `offset`, which both lie within the space. Throws RangeError if it may not. */
  write?(offset: number, bytes: Uint8Array): void;
  /** A front-end restores the space after a migration. Left out: write() is asked. */
  restore?(offset: number, bytes: Uint8Array): void;
}

/** A region of guest memory, and where it lies in a file. Numbers are in bytes. */
export interface MemoryFile {
  /** Its first guest physical address. */
  readonly gpa: bigint;
  /** Its length. */
  readonly byteLength: bigint;
  /** Of the file. It stays the back-end's. */
  readonly fd: number;
  /** Where `gpa` lies in the file. */
  readonly offset: bigint;
  /** What offsets in a mapping of the file must be a multiple of. */
  readonly granularity: number;
}

/** Guest memory by guest physical address. */
export interface DeviceMemory {
  /**
   * Views of guest memory, in place: one, or more where the bytes cross a border of regions. They are good until onChange.
   * Throws RangeError where the guest has no memory.
   */
  buffers(gpa: bigint, byteLength: number): Uint8Array[];
  /** The files that it lies in, for whoever maps it in another process. They are good until onChange. */
  files(): readonly MemoryFile[];
  /** Calls `changed` whenever regions have come or gone. */
  onChange(changed: () => void): void;
}

/** What a device is given by whoever serves it. */
export interface DeviceHost {
  /** Guest memory, for devices whose requests carry addresses. */
  readonly memory: DeviceMemory;
  /** Bounded by kind, so that no guest fills the log. */
  readonly log: Log;
  /** The config space has changed: the driver is told, if the front-end has a way. */
  configChanged(): void;
}

/** A request of the protocol that is this device's own, such as VHOST_USER_GPU_SET_SOCKET. */
export interface DeviceMessage {
  /** How many descriptors come with it. */
  readonly fds: number;
  /**
   * The descriptors are the device's from here on. A returned payload is the reply; after 2 s the front-end is told that the
   * request has failed. Throws RangeError if the request makes no sense.
   */
  handle(payload: Buffer, fds: readonly number[]): Buffer | undefined | Promise<Buffer | undefined>;
}

/** A kind of request, as counts, metrics and `vringd ctl` have it. In the order in which the core counts kinds. */
export interface RequestKind {
  /** Such as "writeZeroes". Metrics have it in their own spelling, "write_zeroes". */
  readonly name: string;
  /** Its count in log lines and statistics, such as "reads". */
  readonly count: string;
  /** Left out: it moves no data. */
  readonly data?: KindData;
  /** Whether there are latencies of it. */
  readonly isTimed: boolean;
}

/** Data of a kind of request. */
export interface KindData {
  /** "in" to the driver, or "out" of it. */
  readonly direction: "in" | "out";
  /** Their count in bytes, such as "readBytes". */
  readonly count: string;
}

/** A number that the device's metrics have. */
export interface DeviceGauge {
  /** Below the program's own, such as "size_bytes". */
  readonly name: string;
  /** A sentence. */
  readonly help: string;
  /** As it is now: the metrics ask whenever somebody looks. */
  readonly value: number;
}

/** What a command has to say, as members of a JSON object. */
export type CommandAnswer = Readonly<Record<string, string | number | boolean>>;

/** A command that operators give while the device runs: `vringd ctl NAME COMMAND ARGUMENT...`. */
export interface DeviceCommand {
  /** The arguments, such as "LINE 0|1". Empty: there are none. */
  readonly usage: string;
  /** What it does, in a few words. */
  readonly help: string;
  /** Throws RangeError, whose message is a sentence, for arguments that make no sense. */
  run(args: readonly string[]): CommandAnswer | undefined | Promise<CommandAnswer | undefined>;
}

/** Where an operator's terminal can be attached to a device, such as a port of a console: `vringd ctl NAME attach`. */
export interface Terminal {
  /** Whether one is. */
  readonly isAttached: boolean;
  /** What is typed comes from the stream, and what is to be seen goes to it, until it closes. Only while none is attached. */
  attach(stream: Duplex): void;
  /** Closes the stream that is attached. */
  detach(): void;
  /** So large is the window, in characters. */
  resize(size: WindowSize): void;
}

/** What a screen of the guest's shows. */
export interface Screen {
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
  /** All of them as they are now, row by row, as 0xAARRGGBB, whose alpha does not count. */
  pixels(): Uint32Array;
}

/** A rectangle of a screen's, in pixels. */
export interface ScreenRect {
  /** Of the left column, counted from the left. */
  readonly x: number;
  /** Of the upper row, counted from above. */
  readonly y: number;
  /** Columns. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
}

/** What a screen shows that it did not show before. */
export interface ScreenUpdate {
  /** Of the screen, with all this. */
  readonly version: number;
  /** In pixels; 0: it shows nothing. */
  readonly width: number;
  /** In pixels; 0: it shows nothing. */
  readonly height: number;
  /** They cover all that was drawn, and lie within the screen. */
  readonly rects: readonly ScreenRect[];
  /** Where the mouse pointer's upper left corner is, which may lie outside. Undefined: there is no pointer. */
  readonly pointer?:
    | {
        /** Of the screen's columns; may be negative. */
        readonly x: number;
        /** Of the screen's rows; may be negative. */
        readonly y: number;
        /** 64 x 64 of them, as 0xAARRGGBB, whose colours are multiplied by their alpha already. Left out: as before. */
        readonly pixels?: Uint32Array | undefined;
      }
    | undefined;
  /** Pixels of a rectangle within the screen, as they are when it is called: row by row, as Screen.pixels() has them. */
  copy(rect: ScreenRect, into: Uint32Array): void;
}

/** A screen that can be watched, whether it shows something or not. */
export interface WatchedScreen {
  /** From 1 on; it grows with each change. */
  readonly version: number;
  /** What has changed since then: of a version that is not known (any more), all. */
  updateSince(version: number): ScreenUpdate;
  /** Calls `changed` once, at the next change. Returns what takes that back. */
  onChange(changed: () => void): () => void;
}

/** What others may see of a device beside its queues and features. */
export interface DeviceFacts {
  /** For the log's line that says the program is ready. */
  readonly log: Readonly<Record<string, unknown>>;
  /** Members of the status document beside those of every device, such as { disk: {...} }. */
  readonly status: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** Labels of the metric "info". */
  readonly labels: Readonly<Record<string, string>>;
  /** Metrics of its own. */
  readonly gauges: readonly DeviceGauge[];
  /** What an operator watches beside requests, by name and as it is now, such as the levels of lines: `vringd top`. */
  readonly watched?: Readonly<Record<string, string>>;
}

/** What moves with a guest from one back-end to another, or to the next version of this one. */
export interface DeviceState {
  /** In a form that says which it is. All rings are stopped. */
  save(): Uint8Array;
  /** Of another back-end. Throws RangeError, whose message is a sentence, for what can't be loaded. */
  load(bytes: Uint8Array): void;
}

/**
 * How a device goes on in another process: the next version of its program, started by this one (`vringd ctl NAME upgrade`). What it
 * hands over is plain data, big integers, byte arrays, and descriptors, which stay its own.
 */
export interface Succession {
  /** Why it can't now: a sentence. Left out, or undefined: it can. */
  readonly obstacle?: string | undefined;
  /** What the other process opens its device with while this one still serves: OpenContext.inherited. */
  offer?(): unknown;
  /** All rings have stopped. What the other one goes on with; this one touches nothing any more. Rejects with a RangeError if it can't be. */
  give?(): Promise<unknown>;
  /** The other one does not go on: this one does. */
  takeBack?(): Promise<void>;
  /** The other one goes on, and this process is about to end: the device is closed as far as the other one doesn't share it. */
  leave?(): Promise<void>;
  /** In the other process: what give() has resolved with. No ring runs, and the driver's features are known. Rejects if it can't go on. */
  take?(given: unknown): Promise<void>;
}

/** Of a device whose store only one back-end may use at a time, of those that a guest moves between. */
export interface Activation {
  /** Whether it is this one: rings may run. */
  readonly isActive: boolean;
  /** Becomes it if no other is. Resolves to `isActive`. No ring may run meanwhile. */
  activate(): Promise<boolean>;
  /** The same, once the other has let it go. Rejects with {@link NotActivated}, or as `signal` says. */
  untilActive(signal: AbortSignal): Promise<void>;
  /** Another may become it, once this resolves, and finds all that was written. All rings have stopped. */
  inactivate(): Promise<void>;
}

/** The rings of a device can't run: the message is a sentence that says who has what it stores. */
export class NotActivated extends Error {
  /** Of the class. */
  override readonly name = "NotActivated";
}

/** What front-end and driver see of a device, whoever serves its requests. */
export interface Device {
  /** As `--print-capabilities` and description files have it, such as "rng". */
  readonly type: string;
  /** Of the specification's list (virtio 1.4, 5). */
  readonly virtioId: number;
  /** In the order of their numbers. */
  readonly queues: readonly QueueSpec[];
  /** The device's own bits; those of rings and of the protocol are added. */
  readonly features: bigint;
  /** What the specification calls them, by bit, for status documents. */
  readonly featureNames?: Readonly<Record<number, string>>;
  /** Of these, bits that a driver must accept: one that does not is refused. */
  readonly requiredFeatures?: bigint;
  /** Bits that front-ends set though they were not offered. */
  readonly ignoredFeatures?: bigint;
  /** Left out: the front-end is offered no config space. */
  readonly config?: ConfigSpace;
  /** By request number. Those of the protocol that every device has can't be replaced. */
  readonly messages?: ReadonlyMap<number, DeviceMessage>;
  /** Whether the front-end is offered inflight tracking, for devices whose requests must outlive this process. */
  readonly inflight?: boolean;
  /**
   * Whether a guest can be moved to another back-end of this device while it runs: what its driver has seen of the device is nothing that
   * another doesn't have, or is in `state`. All guest memory that it writes must be that of its chains.
   */
  readonly migrates?: boolean;
  /** What another back-end must know to go on for the same driver. */
  readonly state?: DeviceState;
  /** Left out: the device can't go on in another process. */
  readonly succession?: Succession;
  /** Left out: rings may run at any time. */
  readonly activation?: Activation | undefined;
  /** Left out: all requests are of one kind, "chain". */
  readonly kinds?: readonly RequestKind[];
  /** What the log, status and metrics say of it. */
  readonly facts?: DeviceFacts;
  /** By name. Those that every device has, such as "status", can't be replaced. */
  readonly commands?: Readonly<Record<string, DeviceCommand>>;
  /** By name, in the device's order. */
  readonly terminals?: ReadonlyMap<string, Terminal>;
  /** By name, those that show something. */
  readonly screens?: ReadonlyMap<string, Screen>;
  /** By name, those that can be watched, whether they show something or not. Left out: there are pictures of them, and no more. */
  readonly watchedScreens?: ReadonlyMap<string, WatchedScreen>;
  /** A new front-end has come: what the one before it chose does not count. negotiated(0n) follows. */
  connected?(): void;
  /** The front-end has left; its rings have stopped. */
  disconnected?(): void;
  /**
   * The driver has accepted these bits; those of the protocol are left out. 0n: the device was reset, or has a new front-end. Called
   * when they change, which can be while rings run.
   */
  negotiated?(features: bigint): void;
  /**
   * A ring is about to start whose driver was served before this front-end came, by another process or on another host: what the
   * driver wrote to the config space then is not known. It can be called more than once.
   */
  inherited?(): void;
  /** The driver has reset the device: nothing of its former life counts. Its rings have stopped. negotiated(0n) follows. */
  reset?(): void;
  /** The end. Rings have stopped. */
  close?(): void | Promise<void>;
}

/** A device that is handed each chain of its queues. It lives in the thread in which it was made. */
export interface VirtioDevice extends Device {
  /** Once, before all else. */
  attach?(host: DeviceHost): void;
  /** A ring runs. The driver may start some queues and not others. */
  start(queue: DeviceQueue): void;
  /**
   * A ring is to stop: each chain that is held must be used or parked. The ring stops when this has resolved, or 2 s later; chains
   * that are held 2 s after that are parked, unless the device has been given guest memory in place.
   */
  stop?(queue: DeviceQueue): void | Promise<void>;
}

/** A queue whose ring runs. */
export interface DeviceQueue {
  /** In VirtioDevice.queues. */
  readonly index: number;
  /** Entries of the ring, as the front-end has set it. */
  readonly size: number;
  /**
   * Hands each chain to `handle`, at most `concurrency` of them at a time (1 if left out). An exception of `handle` uses the
   * chain as QueueSpec.fail says, is counted, and is logged once a kind.
   */
  serve(handle: (chain: Chain) => void | Promise<void>, options?: { concurrency?: number }): void;
  /** The next chain, once there is one. Rejects with QueueStopped when the ring stops first. */
  take(): Promise<Chain>;
  /**
   * The next chain if it is here already; asks for one otherwise, so that onAvailable is called. `ahead`: asks for so many, for
   * whoever is going to take them all; those that it does not take stay at hand until the ring stops.
   */
  tryTake(ahead?: number): Chain | undefined;
  /** Calls `available` when tryTake() may find a chain that it did not find before. */
  onAvailable(available: () => void): void;
}

/** A descriptor chain, as the bytes that the driver gives and the room that it has. It must be used or parked, once. */
export interface Chain {
  /** What the driver gives. */
  readonly in: ChainReader;
  /** The room that it has for the device. */
  readonly out: ChainWriter;
  /** Gives the chain back. `byteLength`: how many bytes were written; left out, as many as `out` has counted. Throws if it was given back before. */
  use(byteLength?: number): void;
  /** Only while the ring stops: the chain is taken again, before all others, when it starts again. */
  park(): void;
}

/** What the driver wrote. Numbers are little-endian copies, read once: a guest may change its memory at any time. Throws ShortChain past the end. */
export interface ChainReader {
  /** Bytes that are left. */
  readonly left: number;
  /** The next byte. */
  u8(): number;
  /** The next 2 bytes. */
  u16(): number;
  /** The next 4 bytes. */
  u32(): number;
  /** The next 8 bytes. */
  u64(): bigint;
  /** A copy. */
  bytes(byteLength: number): Uint8Array;
  /** Guest memory in place, good until the chain is used. */
  views(byteLength: number): Uint8Array[];
  /** views() of all that is left. */
  rest(): Uint8Array[];
}

/** Where the driver wants to read. Throws ShortChain past the end. */
export interface ChainWriter {
  /** Bytes of room that are left. */
  readonly left: number;
  /** Bytes written so far. */
  readonly written: number;
  /** One byte. */
  u8(value: number): void;
  /** 2 bytes, little-endian. */
  u16(value: number): void;
  /** 4 bytes, little-endian. */
  u32(value: number): void;
  /** 8 bytes, little-endian. */
  u64(value: bigint): void;
  /** These bytes. */
  bytes(bytes: Uint8Array): void;
  /** Room in place, counted as written. */
  views(byteLength: number): Uint8Array[];
}

/** The driver's chain is shorter than its request: the guest's fault, and that chain's end. */
export class ShortChain extends Error {
  /** Of the class. */
  override readonly name = "ShortChain";
}

/** The ring has stopped. */
export class QueueStopped extends Error {
  /** Of the class. */
  override readonly name = "QueueStopped";
}
