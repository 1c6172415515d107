// What is at a connection's other end: a socket of the host's, or what stands for one where another guest is there.
import type { WatchedSocket } from "../../linux/socket-set.ts";

export interface FarSocket
  extends Pick<
    WatchedSocket,
    "isReadable" | "isWritable" | "hasEnded" | "hasGone" | "read" | "write" | "messageLength"
  > {
  onEdge: () => void;
  /** Left out: a socket of the host's. */
  readonly isSibling?: boolean;
  /** The other side has given the connection up: nothing that it has sent counts any more. */
  readonly wasReset?: boolean;
  /** The other side reads no more. */
  readonly isDeaf?: boolean;
  endWrite(): void;
  endRead(): void;
  /** `isReset`: the other side is to hear that this was no end, but a break. A socket of the host's knows no difference. */
  close(isReset?: boolean): void;
}

/** Who wants to reach a port of the guest's. */
export interface Caller {
  readonly socket: FarSocket;
  /** The guest has accepted. `port`: the caller's own, as the guest knows it. */
  accepted(port: number): void;
}

/** Told of whoever is there, or that nobody is. */
export type Answered = (socket: FarSocket | undefined) => void;
