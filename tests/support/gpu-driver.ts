// The driver of a GPU device at our own front-end: commands as the specification has them, and what comes back.
import * as spec from "../../assembly/spec/virtio-gpu.ts";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import { ChainDriver, connectDevice, type Posted } from "./chain-driver.ts";
import type { Random } from "./random.ts";

export const CONTROL = 0;
const CURSOR = 1;

/** Only what fails takes so long. */
const ANSWER_MS = 60_000;

export interface Answer {
  length: number;
  type: number;
  flags: number;
  fenceId: bigint;
  body: Buffer;
}

export interface Area {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** A command's bytes: numbers of 32 bits, or of 64 where they are bigint. */
export function words(...numbers: readonly (number | bigint)[]): Buffer {
  return Buffer.concat(
    numbers.map((number) => {
      const bytes = Buffer.alloc(typeof number === "bigint" ? 8 : 4);
      if (typeof number === "bigint") bytes.writeBigUInt64LE(number);
      else bytes.writeUInt32LE(number);
      return bytes;
    }),
  );
}

export function request(type: number, body: Buffer, fenceId?: bigint, context = 0): Buffer {
  const flags = fenceId === undefined ? 0 : spec.VIRTIO_GPU_FLAG_FENCE;
  return Buffer.concat([words(type, flags, fenceId ?? 0n, context, 0), body]);
}

/** A range of guest memory. */
export interface Range {
  gpa: number | bigint;
  length: number;
}

const areaWords = ({ x, y, width, height }: Area) => [x, y, width, height];

export function connectGpu(
  socketPath: string,
  options: Parameters<typeof connectDevice>[1] = {},
): Promise<FrontEnd> {
  return connectDevice(socketPath, {
    queues: 2,
    queueSize: 64,
    bits: [spec.VIRTIO_GPU_F_EDID],
    configSize: spec.GPU_CONFIG_SIZE,
    ...options,
  });
}

export class GpuDriver {
  private readonly control: ChainDriver;
  private readonly pointer: ChainDriver;

  constructor(readonly frontEnd: FrontEnd) {
    this.control = new ChainDriver(frontEnd, CONTROL);
    this.pointer = new ChainDriver(frontEnd, CURSOR);
  }

  post(type: number, body: Buffer, room = spec.GPU_EDID_SIZE, fenceId?: bigint, context?: number): Posted {
    return this.control.post([request(type, body, fenceId, context)], [room]);
  }

  async answered(posted: Posted): Promise<Answer> {
    return answerOf((await this.control.used(posted, ANSWER_MS)).bytes);
  }

  ask(type: number, body: Buffer = Buffer.alloc(0), fenceId?: bigint): Promise<Answer> {
    return this.answered(this.post(type, body, spec.GPU_EDID_SIZE, fenceId));
  }

  /** Any bytes, in one buffer. */
  async raw(bytes: Buffer, room: number): Promise<Buffer> {
    return (await this.control.used(this.control.post([bytes], [room]), ANSWER_MS)).bytes;
  }

  /** The response's type. */
  async tell(type: number, ...numbers: readonly (number | bigint)[]): Promise<number> {
    return (await this.ask(type, words(...numbers))).type;
  }

  create(id: number, format: number, width: number, height: number): Promise<number> {
    return this.tell(spec.VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, id, format, width, height);
  }

  attach(id: number, ranges: readonly Range[], count = ranges.length): Promise<number> {
    const entries = ranges.flatMap(({ gpa, length }) => [BigInt(gpa), length, 0]);
    return this.tell(spec.VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, id, count, ...entries);
  }

  detach(id: number): Promise<number> {
    return this.tell(spec.VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, id, 0);
  }

  unref(id: number): Promise<number> {
    return this.tell(spec.VIRTIO_GPU_CMD_RESOURCE_UNREF, id, 0);
  }

  transfer(id: number, area: Area, offset: number | bigint = 0): Promise<number> {
    return this.tell(spec.VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, ...areaWords(area), BigInt(offset), id, 0);
  }

  show(scanout: number, id: number, area: Area): Promise<number> {
    return this.tell(spec.VIRTIO_GPU_CMD_SET_SCANOUT, ...areaWords(area), scanout, id);
  }

  flush(id: number, area: Area): Promise<number> {
    return this.tell(spec.VIRTIO_GPU_CMD_RESOURCE_FLUSH, ...areaWords(area), id, 0);
  }

  /** `id`: 0 hides it. Linux leaves no room for an answer. */
  async cursor(
    type: number,
    { scanout = 0, x = 0, y = 0, id = 0, hotX = 0, hotY = 0, room = spec.GPU_HEADER_SIZE },
  ): Promise<number> {
    const bytes = request(type, words(scanout, x, y, 0, id, hotX, hotY, 0));
    const posted = this.pointer.post([bytes], room > 0 ? [room] : []);
    const { length, bytes: answer } = await this.pointer.used(posted, ANSWER_MS);
    return length >= 4 ? answer.readUInt32LE(0) : 0;
  }

  /** A resource with memory of its own behind it, which has these pixels. */
  async draw(id: number, format: number, width: number, height: number, pixels: Buffer): Promise<number> {
    const gpa = this.frontEnd.memory.allocate(pixels.length);
    this.frontEnd.memory.write(gpa, pixels);
    await this.create(id, format, width, height);
    await this.attach(id, [{ gpa, length: pixels.length }]);
    const type = await this.transfer(id, { x: 0, y: 0, width, height });
    if (type !== spec.VIRTIO_GPU_RESP_OK_NODATA) throw new Error(`transfer: 0x${type.toString(16)}`);
    return gpa;
  }

  get outstanding(): number {
    return this.control.outstanding;
  }
}

const COMMANDS_2D = [0x100, 0x101, 0x102, 0x103, 0x104, 0x105, 0x106, 0x107, 0x108, 0x109, 0x10a];
const COMMANDS_3D = [0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207];
const COMMANDS = [...COMMANDS_2D, ...COMMANDS_3D, 0x300, 0x301];
const NUMBERS = [0, 0, 1, 1, 2, 3, 8, 16, 64, 64, 4096, 16384, 16385, 0x8000_0000, 0xffff_fffc, 0xffff_ffff];

/** A command of a driver that may be any, with numbers that mean something now and then. */
export function anyGpuRequest(random: Random): Buffer {
  const numbers = Array.from({ length: 12 }, () => random.pick(NUMBERS));
  const fenceId = random.below(2) === 0 ? 7n : undefined;
  return request(random.pick(COMMANDS), words(...numbers), fenceId, random.below(4));
}

function answerOf(bytes: Buffer): Answer {
  return {
    length: bytes.length,
    type: bytes.readUInt32LE(0),
    flags: bytes.readUInt32LE(4),
    fenceId: bytes.readBigUInt64LE(8),
    body: bytes.subarray(spec.GPU_HEADER_SIZE),
  };
}
