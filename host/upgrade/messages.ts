// What a process and its successor say to each other, in this order. The first two forms stay as they are for ever, so that two that
// don't understand each other can say so.
import type { ServiceOffer, ServiceState } from "../backend/service-state.ts";
import type { Descriptor } from "../linux/descriptor.ts";

/** Of all that follows a Greeting. Two processes must have the same. */
export const STATE_VERSION = 1;

/** Where a successor finds the socket to its predecessor: the descriptor's number. */
export const SUCCESSOR_FD = "VRINGD_SUCCESSOR_FD";

/** The successor, as soon as it runs. */
export interface Greeting {
  readonly stateVersion: number;
  /** The program's name, and its release. */
  readonly program: string;
  readonly release: string;
}

/** The predecessor, while it serves. */
export interface Offer {
  readonly pid: number;
  /** The successor waits until the predecessor has died, opens all devices for itself, and is told nothing more. */
  readonly standsBy?: boolean;
  readonly logLevel: string;
  readonly services: readonly ServiceOffer[];
  /** How each of them was asked for (Member.asked), where they come and go. */
  readonly members?: readonly unknown[] | undefined;
  /** Where others look from outside, by address. */
  readonly sockets: Readonly<Record<string, Descriptor>>;
}

/** The successor: it has opened all devices, and its workers wait. Or it ends, and says why in a sentence. */
export interface Prepared {
  readonly failed?: string;
}

/** The predecessor, when it has stopped. */
export interface State {
  readonly services: readonly ServiceState[];
}

/**
 * The successor: all is here, and it is about to start the rings. Until it has said so nothing was done there, and the predecessor may go
 * on; afterwards it never may. Or it ends, and says why.
 */
export interface Taken {
  readonly failed?: string;
}
