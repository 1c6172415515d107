// A front-end's connection as one process leaves it and its successor goes on with it: all that was said on it so far.
import type { Descriptor } from "../linux/descriptor.ts";
import type { LogDescription } from "../memory/dirty-log.ts";
import type { InflightDescription } from "../memory/inflight-region.ts";
import type { RegionDescription } from "../memory/region-list.ts";
import type { RingAddresses } from "./vring.ts";

export interface RegionState {
  readonly description: RegionDescription;
  readonly file: Descriptor;
}

export interface InflightState {
  readonly description: InflightDescription;
  readonly file: Descriptor;
}

export interface VringState {
  readonly size: number | undefined;
  readonly addresses: RingAddresses | undefined;
  readonly base: number | undefined;
  /** Undefined: the front-end has not started the ring. */
  readonly kick: Descriptor | "none" | undefined;
  readonly call: Descriptor | undefined;
  readonly err: Descriptor | undefined;
  readonly isEnabled: boolean;
  readonly hasStarted: boolean;
  readonly isBroken: boolean;
}

export interface ConfigWrite {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly flags: number;
}

/** The back-end's own channel to the front-end. */
export interface ChannelState {
  readonly socket: Descriptor;
  readonly hasChanged: boolean;
  /** Of a message that is written in part. */
  readonly rest: Uint8Array;
}

export interface NegotiatedState {
  readonly features: bigint;
  readonly protocolFeatures: bigint;
  readonly status: bigint;
  readonly hasReadConfig: boolean;
  readonly writes: readonly ConfigWrite[];
  readonly channel: ChannelState | undefined;
  readonly news: { readonly isDue: boolean; readonly isUnread: boolean };
}

export interface LogState {
  readonly sent: { readonly description: LogDescription; readonly file: Descriptor } | undefined;
  readonly fault: string;
  readonly isOn: boolean;
  readonly call: Descriptor | undefined;
}

export interface SessionState {
  readonly connection: Descriptor;
  readonly isServed: boolean;
  readonly connectedForMs: number;
  readonly hasSpoken: boolean;
  readonly hasMoved: boolean;
  readonly negotiated: NegotiatedState;
  readonly memory: readonly RegionState[];
  readonly inflight: InflightState | undefined;
  readonly log: LogState;
  /** The device's state, as the front-end has loaded it last. */
  readonly loaded: Uint8Array | undefined;
  readonly vrings: readonly VringState[];
}
