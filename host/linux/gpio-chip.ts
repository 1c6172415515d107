// GPIO lines of this machine, by the character device's second interface (linux/gpio.h, "v2"). A chip may sit behind a slow bus, so what
// reaches its hardware is asked in the thread pool.
import { closeSync, constants, openSync } from "node:fs";
import { filePath } from "../process/paths.ts";
import { EAGAIN } from "./errno.ts";
import * as libc from "./libc.ts";
import { whenReadable } from "./readiness.ts";
import { addStatusFlags } from "./status-flags.ts";
import { callInPool } from "./thread-pool.ts";

const GPIO_GET_CHIPINFO = 0x8044b401;
const GPIO_V2_GET_LINEINFO = 0xc100b405;
const GPIO_V2_GET_LINE = 0xc250b407;
const GPIO_V2_LINE_SET_CONFIG = 0xc110b40d;
const GPIO_V2_LINE_GET_VALUES = 0xc010b40e;
const GPIO_V2_LINE_SET_VALUES = 0xc010b40f;

const NAME_SIZE = 32;

/** struct gpiochip_info: name, label, lines u32. */
const CHIP_INFO_SIZE = 68;
const CHIP_LABEL = 32;
const CHIP_LINES = 64;

/** struct gpio_v2_line_info: name, consumer, offset u32, num_attrs u32, flags u64, attributes. */
const LINE_INFO_SIZE = 256;
const INFO_OFFSET = 64;
const INFO_FLAGS = 72;

/** struct gpio_v2_line_config: flags u64, num_attrs u32, padding, ten attributes: id u32, padding, values u64, mask u64. */
const LINE_CONFIG_SIZE = 272;
const CONFIG_NUM_ATTRS = 8;
const CONFIG_ATTR_ID = 32;
const CONFIG_ATTR_VALUES = 40;
const CONFIG_ATTR_MASK = 48;

/** struct gpio_v2_line_request: 64 offsets, consumer, config, num_lines u32, event_buffer_size u32, padding, fd s32. */
const LINE_REQUEST_SIZE = 592;
const REQUEST_CONSUMER = 256;
const REQUEST_CONFIG = 288;
const REQUEST_NUM_LINES = 560;
const REQUEST_EVENT_BUFFER_SIZE = 564;
const REQUEST_FD = 588;

/** struct gpio_v2_line_values: bits u64, mask u64. */
const LINE_VALUES_SIZE = 16;
const VALUES_MASK = 8;

/** struct gpio_v2_line_event: timestamp_ns u64, id u32, and what tells its place. */
const LINE_EVENT_SIZE = 48;
const EVENT_ID = 8;
const GPIO_V2_LINE_EVENT_RISING_EDGE = 1;

const GPIO_V2_LINE_FLAG_INPUT = 1n << 2n;
const GPIO_V2_LINE_FLAG_OUTPUT = 1n << 3n;
const GPIO_V2_LINE_FLAG_EDGE_RISING = 1n << 4n;
const GPIO_V2_LINE_FLAG_EDGE_FALLING = 1n << 5n;
const GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES = 2;

const FIRST_LINE = 1n;
/** What the kernel keeps for us of a line whose edges come faster than they are read: as much as it ever does. */
const EVENTS_KEPT = 1024;
const EVENTS_A_READ = 64;

export type Edges = "none" | "rising" | "falling" | "both";

const EDGE_FLAGS: Readonly<Record<Edges, bigint>> = {
  none: 0n,
  rising: GPIO_V2_LINE_FLAG_EDGE_RISING,
  falling: GPIO_V2_LINE_FLAG_EDGE_FALLING,
  both: GPIO_V2_LINE_FLAG_EDGE_RISING | GPIO_V2_LINE_FLAG_EDGE_FALLING,
};

export class GpioChip {
  private constructor(
    private readonly fd: number,
    /** What its maker calls it. */
    readonly label: string,
    readonly lineCount: number,
  ) {}

  /** Throws SystemError, also for a file that is no such chip. */
  static open(path: string): GpioChip {
    const fd = openSync(filePath(path), constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY);
    try {
      const info = Buffer.alloc(CHIP_INFO_SIZE);
      libc.checked("ioctl(GPIO_GET_CHIPINFO)", libc.ioctl(fd, GPIO_GET_CHIPINFO, info));
      return new GpioChip(fd, textAt(info, CHIP_LABEL), info.readUInt32LE(CHIP_LINES));
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** It is not ours yet. Throws SystemError. */
  line(offset: number): GpioLine {
    const info = lineInfoOf(offset);
    libc.checked("ioctl(GPIO_V2_GET_LINEINFO)", libc.ioctl(this.fd, GPIO_V2_GET_LINEINFO, info));
    return new GpioLine(this.fd, offset, textAt(info, 0));
  }

  /** Lines that are taken stay so until they are released. */
  close(): void {
    closeSync(this.fd);
  }
}

/** One line, which is ours from when it is first made an input or an output until it is released. One call at a time. */
export class GpioLine {
  /** Of a line that is an input and whose edges are watched. */
  onEdge: (isRising: boolean) => void = () => {};
  private fd: number | undefined;
  private watcher: { stop(): void } | undefined;

  constructor(
    private readonly chipFd: number,
    private readonly offset: number,
    /** As the chip has it; may be empty. */
    readonly name: string,
  ) {}

  /** Throws SystemError. */
  async isOutput(): Promise<boolean> {
    const info = lineInfoOf(this.offset);
    await ask(this.chipFd, "GPIO_V2_GET_LINEINFO", GPIO_V2_GET_LINEINFO, info);
    return (info.readBigUInt64LE(INFO_FLAGS) & GPIO_V2_LINE_FLAG_OUTPUT) !== 0n;
  }

  /** Edges that came before are forgotten. Throws SystemError. */
  async input(edges: Edges): Promise<void> {
    this.unwatch();
    await this.configure(GPIO_V2_LINE_FLAG_INPUT | EDGE_FLAGS[edges]);
    if (edges !== "none") this.watch();
  }

  /** Throws SystemError. */
  async output(value: number): Promise<void> {
    this.unwatch();
    await this.configure(GPIO_V2_LINE_FLAG_OUTPUT, value);
  }

  /** Of a line that is an output. Throws SystemError. */
  async set(value: number): Promise<void> {
    await ask(this.fd!, "GPIO_V2_LINE_SET_VALUES", GPIO_V2_LINE_SET_VALUES, lineValuesOf(value));
  }

  /** The level; of a line that is not ours as it is, which takes it for a moment. Throws SystemError. */
  async get(): Promise<number> {
    const fd = this.fd ?? (await this.request(Buffer.alloc(LINE_CONFIG_SIZE), 0));
    try {
      const values = lineValuesOf(0);
      await ask(fd, "GPIO_V2_LINE_GET_VALUES", GPIO_V2_LINE_GET_VALUES, values);
      return Number(values.readBigUInt64LE(0) & FIRST_LINE);
    } finally {
      if (fd !== this.fd) await callInPool(libc.close, fd);
    }
  }

  /** It is no longer ours: what it is then is its chip's to say. */
  async release(): Promise<void> {
    this.unwatch();
    const { fd } = this;
    this.fd = undefined;
    if (fd !== undefined) await callInPool(libc.close, fd);
  }

  private async configure(flags: bigint, value?: number): Promise<void> {
    const config = lineConfigOf(flags, value);
    if (this.fd === undefined) {
      this.fd = await this.request(config, EVENTS_KEPT);
      return;
    }
    await ask(this.fd, "GPIO_V2_LINE_SET_CONFIG", GPIO_V2_LINE_SET_CONFIG, config);
    // Edges that were to be told of before.
    while (this.readEdges().length > 0);
  }

  private async request(config: Buffer, eventsKept: number): Promise<number> {
    const request = Buffer.alloc(LINE_REQUEST_SIZE);
    request.writeUInt32LE(this.offset, 0);
    request.write("vringd", REQUEST_CONSUMER);
    config.copy(request, REQUEST_CONFIG);
    request.writeUInt32LE(1, REQUEST_NUM_LINES);
    request.writeUInt32LE(eventsKept, REQUEST_EVENT_BUFFER_SIZE);
    await ask(this.chipFd, "GPIO_V2_GET_LINE", GPIO_V2_GET_LINE, request);
    const fd = request.readInt32LE(REQUEST_FD);
    addStatusFlags(fd, constants.O_NONBLOCK);
    return fd;
  }

  private watch(): void {
    this.watcher = whenReadable(this.fd!, () => {
      for (const isRising of this.readEdges()) this.onEdge(isRising);
    });
  }

  private unwatch(): void {
    this.watcher?.stop();
    this.watcher = undefined;
  }

  /** A chip that is unplugged has no more of them, and its descriptor can be read for ever. */
  private readEdges(): boolean[] {
    const events = Buffer.alloc(LINE_EVENT_SIZE * EVENTS_A_READ);
    const length = libc.read(this.fd!, events, events.length);
    if (length === -1 && libc.errno() !== EAGAIN) this.watcher?.stop();
    return Array.from(
      { length: Math.max(length, 0) / LINE_EVENT_SIZE },
      (_, i) => events.readUInt32LE(i * LINE_EVENT_SIZE + EVENT_ID) === GPIO_V2_LINE_EVENT_RISING_EDGE,
    );
  }
}

/** What the kernel reads and writes in calls that go on. */
const held = new Set<Buffer>();

/** Throws SystemError. */
async function ask(fd: number, name: string, request: number, argument: Buffer): Promise<void> {
  held.add(argument);
  const result = await callInPool(libc.ioctlAt, fd, request, libc.addressOf(argument));
  held.delete(argument);
  if (result < 0) throw new libc.SystemError(`ioctl(${name})`, -result);
}

function lineInfoOf(offset: number): Buffer {
  const info = Buffer.alloc(LINE_INFO_SIZE);
  info.writeUInt32LE(offset, INFO_OFFSET);
  return info;
}

function lineConfigOf(flags: bigint, value: number | undefined): Buffer {
  const config = Buffer.alloc(LINE_CONFIG_SIZE);
  config.writeBigUInt64LE(flags, 0);
  if (value === undefined) return config;
  config.writeUInt32LE(1, CONFIG_NUM_ATTRS);
  config.writeUInt32LE(GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES, CONFIG_ATTR_ID);
  config.writeBigUInt64LE(BigInt(value), CONFIG_ATTR_VALUES);
  config.writeBigUInt64LE(FIRST_LINE, CONFIG_ATTR_MASK);
  return config;
}

function lineValuesOf(value: number): Buffer {
  const values = Buffer.alloc(LINE_VALUES_SIZE);
  values.writeBigUInt64LE(BigInt(value), 0);
  values.writeBigUInt64LE(FIRST_LINE, VALUES_MASK);
  return values;
}

/** Up to the first NUL. */
function textAt(bytes: Buffer, offset: number): string {
  const text = bytes.toString("latin1", offset, offset + NAME_SIZE);
  return text.replace(/\0.*$/s, "");
}
