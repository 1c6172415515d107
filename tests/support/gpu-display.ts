// The front-end's half of the socket for pictures: shows what it is told, and answers what it is asked.
import { Socket } from "node:net";
import * as spec from "../../assembly/spec/virtio-gpu.ts";
import * as message from "../../host/displays/messages.ts";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import { close } from "../../host/linux/libc.ts";
import { unixPair } from "../../host/linux/unix-socket.ts";
import { VHOST_USER_GPU_SET_SOCKET } from "../../host/protocol/messages.ts";
import { until } from "./until.ts";

/** As a viewer sees it: without alpha. */
const COLOURS = 0xffffff;

export interface Surface {
  width: number;
  height: number;
  pixels: Uint32Array;
}

export interface Cursor {
  isShown: boolean;
  x: number;
  y: number;
  hotX: number;
  hotY: number;
  pixels: Uint32Array | undefined;
}

export interface DisplayOptions {
  features?: bigint;
  /** Of each screen, in struct virtio_gpu_display_one. */
  sizes?: readonly (readonly [width: number, height: number])[];
  /** Says nothing, whatever it is asked. */
  isMute?: boolean;
}

export class DisplayPeer {
  readonly surfaces = new Map<number, Surface>();
  readonly cursors = new Map<number, Cursor>();
  /** Request numbers, in order. */
  readonly heard: number[] = [];
  /** Pixels of all updates. */
  pixelCount = 0;
  isClosed = false;
  private received = Buffer.alloc(0);

  private constructor(
    private readonly socket: Socket,
    private readonly options: DisplayOptions,
  ) {
    socket.on("data", (bytes: Buffer) => this.take(bytes));
    socket
      .on("error", () => {})
      .on("close", () => {
        this.isClosed = true;
      });
  }

  /** The device has been given the socket when this resolves. */
  static async attach(frontEnd: FrontEnd, options: DisplayOptions = {}): Promise<DisplayPeer> {
    const [own, theirs] = unixPair();
    const peer = new DisplayPeer(new Socket({ fd: own }), options);
    try {
      const status = await frontEnd.command(VHOST_USER_GPU_SET_SOCKET, undefined, [theirs]);
      if (status !== 0n) throw new Error(`GPU_SET_SOCKET: ${status}`);
    } finally {
      close(theirs);
    }
    return peer;
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  close(): void {
    this.socket.destroy();
  }

  /** Any bytes. */
  say(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  reply(request: number, payload: Buffer): void {
    const header = Buffer.alloc(message.HEADER_BYTES);
    header.writeUInt32LE(request, 0);
    header.writeUInt32LE(message.VHOST_USER_GPU_MSG_FLAG_REPLY, 4);
    header.writeUInt32LE(payload.length, 8);
    this.socket.write(Buffer.concat([header, payload]));
  }

  /** Resolves when the surface has these pixels. */
  async shows(index: number, width: number, height: number, pixelAt: (x: number, y: number) => number) {
    const expected = new Uint32Array(width * height);
    for (let i = 0; i < expected.length; i++) expected[i] = pixelAt(i % width, Math.floor(i / width));
    const isRight = () => {
      const surface = this.surfaces.get(index);
      if (surface?.width !== width || surface.height !== height) return false;
      return expected.every((pixel, i) => (surface.pixels[i]! & COLOURS) === (pixel & COLOURS));
    };
    await until(isRight, `screen ${index} shows the picture`, 60_000);
  }

  private take(bytes: Buffer): void {
    this.received = Buffer.concat([this.received, bytes]);
    while (this.received.length >= message.HEADER_BYTES) {
      const end = message.HEADER_BYTES + this.received.readUInt32LE(8);
      if (this.received.length < end) return;
      const [request, payload] = [this.received.readUInt32LE(0), this.received.subarray(12, end)];
      this.received = this.received.subarray(end);
      this.heard.push(request);
      this.obey(request, payload);
    }
  }

  private obey(request: number, payload: Buffer): void {
    const { isMute, features = 1n } = this.options;
    const numbers = Array.from({ length: Math.min(payload.length / 4, 5) }, (_, i) =>
      payload.readUInt32LE(i * 4),
    );
    const [index = 0, a = 0, b = 0, c = 0, d = 0] = numbers;
    switch (request) {
      case message.VHOST_USER_GPU_SCANOUT:
        if (a === 0) this.surfaces.delete(index);
        else this.surfaces.set(index, { width: a, height: b, pixels: new Uint32Array(a * b) });
        return;
      case message.VHOST_USER_GPU_UPDATE:
        this.update(index, a, b, c, d, payload.subarray(20));
        return;
      case message.VHOST_USER_GPU_CURSOR_UPDATE: {
        const pixels = new Uint32Array(spec.GPU_CURSOR_SIDE ** 2);
        new Uint8Array(pixels.buffer).set(payload.subarray(20));
        this.cursors.set(index, { isShown: true, x: a, y: b, hotX: c, hotY: d, pixels });
        return;
      }
      case message.VHOST_USER_GPU_CURSOR_POS:
      case message.VHOST_USER_GPU_CURSOR_POS_HIDE: {
        const before = this.cursors.get(index) ?? { hotX: 0, hotY: 0, pixels: undefined };
        this.cursors.set(index, {
          ...before,
          isShown: request === message.VHOST_USER_GPU_CURSOR_POS,
          x: a,
          y: b,
        });
        return;
      }
      case message.VHOST_USER_GPU_GET_PROTOCOL_FEATURES: {
        const answer = Buffer.alloc(8);
        answer.writeBigUInt64LE(features);
        if (!isMute) this.reply(request, answer);
        return;
      }
      case message.VHOST_USER_GPU_GET_DISPLAY_INFO:
        if (!isMute) this.reply(request, this.displayInfo());
        return;
      case message.VHOST_USER_GPU_GET_EDID:
        if (!isMute) this.reply(request, Buffer.alloc(spec.GPU_EDID_SIZE, 0x40 + index));
    }
  }

  private update(index: number, x: number, y: number, width: number, height: number, data: Buffer): void {
    const surface = this.surfaces.get(index);
    if (surface === undefined) throw new Error(`an update of screen ${index}, which has no size`);
    if (x + width > surface.width || y + height > surface.height || data.length !== width * height * 4)
      throw new Error(`an update of ${width}x${height} at ${x},${y} with ${data.length} bytes`);
    this.pixelCount += width * height;
    for (let row = 0; row < height; row++)
      for (let column = 0; column < width; column++)
        surface.pixels[(y + row) * surface.width + x + column] = data.readUInt32LE(
          (row * width + column) * 4,
        );
  }

  private displayInfo(): Buffer {
    const info = Buffer.alloc(spec.GPU_DISPLAY_INFO_SIZE);
    info.writeUInt32LE(spec.VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
    for (const [i, [width, height]] of (this.options.sizes ?? [[640, 480]]).entries())
      [i * 10_000, 0, width, height, 1].forEach((number, at) => {
        info.writeUInt32LE(number, spec.GPU_HEADER_SIZE + i * spec.GPU_DISPLAY_ONE_SIZE + at * 4);
      });
    return info;
  }
}
