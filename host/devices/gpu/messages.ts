// Requests and responses as they lie in a chain (virtio 1.4, 5.7.6.7).
import * as spec from "../../../assembly/spec/virtio-gpu.ts";
import type { Rect } from "../../displays/rect.ts";
import { RendererGone, RendererRefused } from "../../renderer/errors.ts";
import type { Chain, ChainReader } from "../device.ts";

export interface Header {
  readonly type: number;
  readonly flags: number;
  readonly fenceId: bigint;
  readonly contextId: number;
}

const NO_HEADER: Header = { type: 0, flags: 0, fenceId: 0n, contextId: 0 };

/** A request that can't be done, with the response that says why. */
export class Refused extends Error {
  constructor(readonly response: number) {
    super();
  }
}

export interface Response {
  readonly type: number;
  /** What follows the header. */
  readonly body?: Uint8Array;
}

export function hasFence({ flags }: Header): boolean {
  return (flags & spec.VIRTIO_GPU_FLAG_FENCE) !== 0;
}

export const DONE: Response = { type: spec.VIRTIO_GPU_RESP_OK_NODATA };

export function readHeader(reader: ChainReader): Header {
  const header = {
    type: reader.u32(),
    flags: reader.u32(),
    fenceId: reader.u64(),
    contextId: reader.u32(),
  };
  reader.u32();
  return header;
}

export function readRect(reader: ChainReader): Rect {
  return { x: reader.u32(), y: reader.u32(), width: reader.u32(), height: reader.u32() };
}

/** Linux leaves no room for the answers of the cursor's queue. */
export function respond(chain: Chain, header: Header, response: Response): void {
  const { type, body = new Uint8Array(0) } = response;
  const bytes = Buffer.alloc(spec.GPU_HEADER_SIZE + body.length);
  bytes.writeUInt32LE(type, 0);
  if (hasFence(header)) {
    bytes.writeUInt32LE(spec.VIRTIO_GPU_FLAG_FENCE, 4);
    bytes.writeBigUInt64LE(header.fenceId, 8);
    bytes.writeUInt32LE(header.contextId, 16);
  }
  bytes.set(body, spec.GPU_HEADER_SIZE);
  chain.out.bytes(bytes.subarray(0, chain.out.left));
  chain.use();
}

/** What a request that no one has done gets, from its beginning. */
export function respondFailure(chain: Chain): void {
  const header = chain.in.left < spec.GPU_HEADER_SIZE ? NO_HEADER : readHeader(chain.in);
  respond(chain, header, { type: spec.VIRTIO_GPU_RESP_ERR_UNSPEC });
}

/** The response for what a command has thrown. Throws what is no fault of the guest's. */
export function failureOf(error: unknown): Response {
  if (error instanceof Refused) return { type: error.response };
  if (error instanceof RendererRefused) return { type: spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER };
  if (error instanceof RendererGone) return { type: spec.VIRTIO_GPU_RESP_ERR_UNSPEC };
  // Memory that the guest does not have.
  if (error instanceof RangeError) return { type: spec.VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER };
  throw error;
}
