// A graphics card as Linux gives it to programs (drm.h, drm_mode.h): what it has, pictures of one's own, and what is shown where.
import { closeSync, openSync } from "node:fs";
import * as libc from "../../host/linux/libc.ts";
import { mapShared, unmap } from "../../host/linux/mapping.ts";

const WRITE = 1;
const READ_WRITE = 3;
const DRM = 0x64;

/** Number, and bytes of its structure. */
const SET_CLIENT_CAP = [WRITE, 0x0d, 16] as const;
const GET_RESOURCES = [READ_WRITE, 0xa0, 64] as const;
const SET_CRTC = [READ_WRITE, 0xa2, 104] as const;
const GET_CONNECTOR = [READ_WRITE, 0xa7, 80] as const;
const DIRTY_FB = [READ_WRITE, 0xb1, 24] as const;
const CREATE_DUMB = [READ_WRITE, 0xb2, 32] as const;
const MAP_DUMB = [READ_WRITE, 0xb3, 16] as const;
const GET_PLANES = [READ_WRITE, 0xb5, 16] as const;
const GET_PLANE = [READ_WRITE, 0xb6, 32] as const;
const ADD_FB2 = [READ_WRITE, 0xb8, 104] as const;
const CURSOR2 = [READ_WRITE, 0xbb, 36] as const;

const CAP_UNIVERSAL_PLANES = 2n;
const CURSOR_BO = 1;
const CURSOR_MOVE = 2;
const CONNECTED = 1;
const MODE_BYTES = 68;
const MOST = 64;
const PIXEL_BITS = 32;

type Request = readonly [direction: number, number: number, byteLength: number];

export interface Mode {
  readonly width: number;
  readonly height: number;
  /** struct drm_mode_modeinfo. */
  readonly bytes: Buffer;
}

export interface Head {
  readonly crtc: number;
  readonly connector: number;
  readonly isConnected: boolean;
  readonly modes: readonly Mode[];
}

/** Memory of the card's, which is in ours, too. */
export interface Dumb {
  readonly handle: number;
  readonly width: number;
  readonly height: number;
  /** Bytes of a row. */
  readonly pitch: number;
  readonly bytes: Buffer;
  release(): void;
}

export class DrmCard {
  private readonly fd: number;

  constructor(path: string) {
    this.fd = openSync(path, "r+");
    this.ask("SET_CLIENT_CAP", SET_CLIENT_CAP, (bytes) => {
      bytes.writeBigUInt64LE(CAP_UNIVERSAL_PLANES, 0);
      bytes.writeBigUInt64LE(1n, 8);
    });
  }

  /** Of each, its CRTC is the one of the same place in the list, as virtio_gpu has them. */
  heads(): Head[] {
    const [crtcs, connectors] = [Buffer.alloc(MOST * 4), Buffer.alloc(MOST * 4)];
    const answer = this.ask("GET_RESOURCES", GET_RESOURCES, (bytes) => {
      bytes.writeBigUInt64LE(pointerTo(crtcs), 8);
      bytes.writeBigUInt64LE(pointerTo(connectors), 16);
      bytes.writeUInt32LE(MOST, 36);
      bytes.writeUInt32LE(MOST, 40);
    });
    return numbersIn(connectors, answer.readUInt32LE(40)).map((connector, i) => ({
      crtc: crtcs.readUInt32LE(i * 4),
      connector,
      ...this.connector(connector),
    }));
  }

  private connector(id: number): Pick<Head, "isConnected" | "modes"> {
    const look = (modes: Buffer) =>
      this.ask("GET_CONNECTOR", GET_CONNECTOR, (bytes) => {
        bytes.writeBigUInt64LE(pointerTo(modes), 8);
        bytes.writeUInt32LE(modes.length / MODE_BYTES, 32);
        bytes.writeUInt32LE(id, 48);
      });
    // The first look makes the driver ask its device.
    look(Buffer.alloc(0));
    const modes = Buffer.alloc(MOST * MODE_BYTES);
    const answer = look(modes);
    const count = Math.min(MOST, answer.readUInt32LE(32));
    return {
      isConnected: answer.readUInt32LE(60) === CONNECTED,
      modes: Array.from({ length: count }, (_, i) => {
        const bytes = modes.subarray(i * MODE_BYTES, (i + 1) * MODE_BYTES);
        return { width: bytes.readUInt16LE(4), height: bytes.readUInt16LE(14), bytes };
      }),
    };
  }

  /** Of each plane, the codes of its formats (drm_fourcc.h), such as "XR24". */
  formats(): string[][] {
    const planes = Buffer.alloc(MOST * 4);
    const all = this.ask("GET_PLANES", GET_PLANES, (bytes) => {
      bytes.writeBigUInt64LE(pointerTo(planes), 0);
      bytes.writeUInt32LE(MOST, 8);
    });
    return numbersIn(planes, all.readUInt32LE(8)).map((plane) => {
      const formats = Buffer.alloc(MOST * 4);
      const answer = this.ask("GET_PLANE", GET_PLANE, (bytes) => {
        bytes.writeUInt32LE(plane, 0);
        bytes.writeUInt32LE(MOST, 20);
        bytes.writeBigUInt64LE(pointerTo(formats), 24);
      });
      const count = answer.readUInt32LE(20);
      return Array.from({ length: count }, (_, i) => formats.toString("latin1", i * 4, i * 4 + 4));
    });
  }

  dumb(width: number, height: number): Dumb {
    const made = this.ask("CREATE_DUMB", CREATE_DUMB, (bytes) => {
      bytes.writeUInt32LE(height, 0);
      bytes.writeUInt32LE(width, 4);
      bytes.writeUInt32LE(PIXEL_BITS, 8);
    });
    const handle = made.readUInt32LE(16);
    const byteLength = Number(made.readBigUInt64LE(24));
    const place = this.ask("MAP_DUMB", MAP_DUMB, (bytes) => bytes.writeUInt32LE(handle, 0));
    const address = mapShared(this.fd, place.readBigUInt64LE(8), byteLength);
    const bytes = Buffer.from(libc.viewOf(address, byteLength));
    const release = () => unmap(address, byteLength);
    return { handle, width, height, pitch: made.readUInt32LE(20), bytes, release };
  }

  /** Makes a picture of it. `format`: its code. */
  frameBuffer({ handle, width, height, pitch }: Dumb, format: string): number {
    const made = this.ask("ADD_FB2", ADD_FB2, (bytes) => {
      bytes.writeUInt32LE(width, 4);
      bytes.writeUInt32LE(height, 8);
      bytes.write(format, 12, "latin1");
      bytes.writeUInt32LE(handle, 20);
      bytes.writeUInt32LE(pitch, 36);
    });
    return made.readUInt32LE(0);
  }

  show({ crtc, connector }: Head, mode: Mode, frameBuffer: number): void {
    const connectors = Buffer.alloc(4);
    connectors.writeUInt32LE(connector);
    this.ask("SET_CRTC", SET_CRTC, (bytes) => {
      bytes.writeBigUInt64LE(pointerTo(connectors), 0);
      bytes.writeUInt32LE(1, 8);
      bytes.writeUInt32LE(crtc, 12);
      bytes.writeUInt32LE(frameBuffer, 16);
      bytes.writeUInt32LE(1, 32);
      mode.bytes.copy(bytes, 36);
    });
  }

  /** All of it has been drawn anew. */
  dirty(frameBuffer: number): void {
    this.ask("DIRTY_FB", DIRTY_FB, (bytes) => bytes.writeUInt32LE(frameBuffer, 0));
  }

  point({ crtc }: Head, { handle, width, height }: Dumb, hotX: number, hotY: number): void {
    this.ask("CURSOR2", CURSOR2, (bytes) => {
      for (const [i, number] of [CURSOR_BO, crtc, 0, 0, width, height, handle, hotX, hotY].entries())
        bytes.writeUInt32LE(number, i * 4);
    });
  }

  movePointer({ crtc }: Head, x: number, y: number): void {
    this.ask("CURSOR2", CURSOR2, (bytes) => {
      for (const [i, number] of [CURSOR_MOVE, crtc, x, y].entries()) bytes.writeUInt32LE(number, i * 4);
    });
  }

  close(): void {
    closeSync(this.fd);
  }

  /** The structure, as the kernel has left it. Throws SystemError. */
  private ask(name: string, [direction, number, byteLength]: Request, fill: (bytes: Buffer) => void): Buffer {
    const bytes = Buffer.alloc(byteLength);
    fill(bytes);
    const request = direction * 2 ** 30 + byteLength * 2 ** 16 + DRM * 2 ** 8 + number;
    libc.checked(`ioctl(${name})`, libc.ioctl(this.fd, request, bytes));
    return bytes;
  }
}

/** Callers hold the buffer. */
function pointerTo(bytes: Buffer): bigint {
  return bytes.length === 0 ? 0n : BigInt(libc.addressOf(bytes));
}

function numbersIn(bytes: Buffer, count: number): number[] {
  return Array.from({ length: count }, (_, i) => bytes.readUInt32LE(i * 4));
}
