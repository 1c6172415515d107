// What a device and its renderer's process say to each other: frames of 32-bit words with bytes behind them, little-endian. Requests are
// done and answered in their order; fences are told when they have been passed.

/** byteLength u32 (of all), kind u32, value u32, wordCount u32; the words; the bytes. */
export const FRAME_HEADER_BYTES = 16;
/** Longer ones make no sense: what a guest says in one piece is shorter. */
export const FRAME_BYTES_MAX = 8 << 20;

/** Requests. `value`: the fence that is to be passed once it has been drawn, or 0. */
/** flags; bytes: the render node's path. Answered with capsets: id, version and length of each; their bytes. */
export const OPEN = 1;
/** For each region of guest memory gpa (low, high), length (low, high), offset in its file (low, high), granularity. Descriptors come beside. */
export const SET_MEMORY = 2;
/** All contexts and resources go. */
export const RESET = 3;
/** context; bytes: its name. */
export const CREATE_CONTEXT = 4;
/** context */
export const DESTROY_CONTEXT = 5;
/** context, resource */
export const ATTACH_RESOURCE = 6;
/** context, resource */
export const DETACH_RESOURCE = 7;
/** 11 words of struct virgl_renderer_resource_create_args, of which the resource is the first. */
export const CREATE_RESOURCE = 8;
/** resource */
export const UNREF_RESOURCE = 9;
/** resource; bytes: of struct virtio_gpu_mem_entry. */
export const ATTACH_BACKING = 10;
/** resource */
export const DETACH_BACKING = 11;
/** context; bytes: commands. */
export const SUBMIT = 12;
/** resource, context, x, y, z, width, height, depth, level, stride, layerStride, offset (low, high) */
export const TRANSFER_TO_HOST = 13;
export const TRANSFER_FROM_HOST = 14;
/** resource, width, height: its pixels are to be seen in memory whose descriptor comes beside. */
export const SHOW = 15;
/** resource, x, y, width, height: so much of them. */
export const READ_PIXELS = 16;

/** The renderer's. `value`: 0, or what was wrong with the request; bytes then: a sentence. */
export const ANSWER = 0x100;
/** `value`: the number of a fence that has been passed. All before it have been, too. */
export const FENCE_PASSED = 0x101;

/** Statuses of an answer. */
export const DONE = 0;
export const REFUSED = 1;
/** Guest memory that there is not. */
export const NO_MEMORY = 2;

export interface Frame {
  readonly kind: number;
  readonly value: number;
  readonly words: readonly number[];
  readonly bytes: Buffer;
}

const NOTHING = new Uint8Array(0);

export function encodeFrame(
  kind: number,
  value: number,
  words: readonly number[] = [],
  bytes: Uint8Array = NOTHING,
): Buffer {
  const begin = FRAME_HEADER_BYTES + words.length * 4;
  const frame = Buffer.alloc(begin + bytes.length);
  [frame.length, kind, value, words.length, ...words].forEach((word, i) => {
    frame.writeUInt32LE(word >>> 0, i * 4);
  });
  frame.set(bytes, begin);
  return frame;
}

export function decodeFrame(frame: Buffer): Frame {
  const count = frame.readUInt32LE(12);
  const begin = FRAME_HEADER_BYTES + count * 4;
  if (begin > frame.length) throw new RangeError(`a frame of ${frame.length} bytes with ${count} words`);
  const words = Array.from({ length: count }, (_, i) => frame.readUInt32LE(FRAME_HEADER_BYTES + i * 4));
  return { kind: frame.readUInt32LE(4), value: frame.readUInt32LE(8), words, bytes: frame.subarray(begin) };
}

/** Two words of a number of 64 bits, and back. */
export function halves(number: bigint): [low: number, high: number] {
  return [Number(number & 0xffffffffn), Number(number >> 32n)];
}

export function whole(low: number, high: number): bigint {
  return (BigInt(high) << 32n) | BigInt(low);
}
