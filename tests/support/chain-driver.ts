// The driver of any device's queue: offers chains of bytes and room, and tells what became of each.

import {
  VIRTIO_F_RING_EVENT_IDX,
  VIRTIO_F_RING_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from "../../assembly/spec/virtqueue.ts";
import type { AddOptions, Segment } from "../../host/driver/ring.ts";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import type { Virtqueue } from "../../host/front-end/virtqueue.ts";
import { featureMask } from "../../host/protocol/feature-bits.ts";
import { VHOST_USER_F_PROTOCOL_FEATURES } from "../../host/protocol/messages.ts";
import { until } from "./until.ts";

const RING_BITS = [VIRTIO_F_RING_EVENT_IDX, VIRTIO_F_RING_INDIRECT_DESC, VIRTIO_F_VERSION_1];

/** A front-end whose driver accepts these bits of the device, and all of the ring's. */
export function connectDevice(
  socketPath: string,
  { packed = false, bits = [], ...options }: FrontEndOptions & { bits?: readonly number[] } = {},
): Promise<FrontEnd> {
  const format = packed ? [VIRTIO_F_RING_PACKED] : [];
  const features = featureMask([...RING_BITS, ...format, ...bits, VHOST_USER_F_PROTOCOL_FEATURES]);
  return FrontEnd.connect(socketPath, { features, configSize: 0, ...options });
}

export interface Posted {
  readonly token: number;
  readonly segments: readonly Segment[];
  /** As the device used it, once it has: the used length, and as many bytes of the room. */
  used: { length: number; bytes: Buffer } | undefined;
}

export class ChainDriver {
  private readonly posted = new Map<number, Posted>();

  constructor(
    private readonly frontEnd: FrontEnd,
    private readonly index: number,
  ) {}

  get queue(): Virtqueue {
    return this.frontEnd.queues[this.index]!;
  }

  /** Offers a chain: buffers with these bytes, then buffers with this room. */
  post(readable: readonly Uint8Array[], room: readonly number[], options?: AddOptions): Posted {
    const { memory } = this.frontEnd;
    const segments = [
      ...readable.map((bytes) => {
        const gpa = memory.allocate(bytes.length);
        memory.write(gpa, bytes);
        return { gpa, length: bytes.length, writable: false };
      }),
      ...room.map((length) => ({ gpa: memory.allocate(length), length, writable: true })),
    ];
    const token = this.queue.add(segments, options);
    const posted: Posted = { token, segments, used: undefined };
    this.posted.set(token, posted);
    this.queue.publish();
    this.queue.kick();
    return posted;
  }

  /** Looks for used chains. */
  collect(): void {
    for (const { token, length } of this.queue.poll()) {
      const posted = this.posted.get(token);
      if (posted === undefined) throw new Error(`${token} was used twice, or never offered`);
      this.posted.delete(token);
      posted.used = { length, bytes: this.bytesOf(posted, length) };
    }
  }

  async used(posted: Posted, timeoutMs?: number): Promise<NonNullable<Posted["used"]>> {
    const look = () => {
      this.collect();
      return posted.used;
    };
    return look() ?? until(look, "the chain is used", timeoutMs);
  }

  /** What the device has written in answer. */
  async exchange(
    readable: readonly Uint8Array[],
    room: readonly number[],
    options?: AddOptions,
  ): Promise<Buffer> {
    return (await this.used(this.post(readable, room, options))).bytes;
  }

  get outstanding(): number {
    this.collect();
    return this.posted.size;
  }

  private bytesOf({ segments }: Posted, length: number): Buffer {
    const { memory } = this.frontEnd;
    const room = segments.filter(({ writable }) => writable);
    const all = Buffer.concat(room.map((segment) => memory.read(segment.gpa, segment.length)));
    for (const segment of segments) memory.free(segment.gpa, segment.length);
    return all.subarray(0, length);
  }
}
