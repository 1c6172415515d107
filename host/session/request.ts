// A request of the front-end as the session's table has it, and whose fault its failures are.
import { ProtocolError } from "../errors.ts";
import { SystemError } from "../linux/libc.ts";
import { GuestMemoryError } from "../memory/region-list.ts";
import * as codec from "../protocol/codec.ts";
import type { Message } from "../protocol/connection.ts";
import * as m from "../protocol/messages.ts";

/** Handlers of requests with a reply of their own return its payload. */
export type Payload = Buffer | undefined;

export interface Request {
  handle: (message: Message) => Payload | Promise<Payload> | void | Promise<void>;
  /** The protocol feature that brings the request. */
  feature?: number;
  /** How many descriptors it may carry, where not none. */
  fds?: (count: number) => boolean;
  /** The reply that says it failed, where not a non-zero acknowledgement. */
  failure?: Buffer;
  /** A guest can bring this failure about, so it must not end the connection. */
  isHarmless?: boolean;
}

/** zero on success, non-zero on failure (VHOST_USER_PROTOCOL_F_REPLY_ACK). */
export const ACK = codec.encodeU64(0n);
export const NACK = codec.encodeU64(1n);

/** Requests of features that aren't offered here, whose senders wait for more than an acknowledgement. */
const REPLIED_ELSEWHERE = new Set([
  m.VHOST_USER_IOTLB_MSG,
  m.VHOST_USER_CREATE_CRYPTO_SESSION,
  m.VHOST_USER_POSTCOPY_ADVISE,
  m.VHOST_USER_POSTCOPY_END,
  m.VHOST_USER_GET_SHARED_OBJECT,
  m.VHOST_USER_SET_DEVICE_STATE_FD,
  m.VHOST_USER_CHECK_DEVICE_STATE,
  m.VHOST_USER_GET_SHMEM_CONFIG,
]);

/** Acknowledged with an error, or ignored if nothing is waiting for it. */
export function unknownRequest(request: number): Request {
  return {
    handle: () => {
      throw new ProtocolError(m.requestName(request), "not supported");
    },
    fds: () => true,
    isHarmless: !REPLIED_ELSEWHERE.has(request),
  };
}

/** Also what the kernel says to a descriptor or an address of the front-end's. */
export function isFrontEndsFault(error: unknown): error is ProtocolError | SystemError {
  return error instanceof ProtocolError || error instanceof SystemError;
}

/** Memory that can't be used is the fault of the request that brought it. */
export function asFrontEnds<T>(request: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (error instanceof GuestMemoryError) throw new ProtocolError(request, error.message);
    throw error;
  }
}

/** What a device calls out of range is the fault of the request that brought it. */
export function asOutOfRange(request: string, error: unknown): unknown {
  return error instanceof RangeError ? new ProtocolError(request, error.message) : error;
}
