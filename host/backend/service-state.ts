// What of a running device goes on in another process: all front-ends, what was counted, and what the device itself hands over.
import type { Descriptor } from "../linux/descriptor.ts";
import type { KeptSession, SessionKeeper } from "../session/keeper.ts";
import type { SessionState } from "../session/session-state.ts";
import type { QueueCounts } from "../workers/statistics.ts";
import type { Counts } from "./activity.ts";

export type { KeptSession, SessionKeeper, SessionState };

/** While the device is served still. */
export interface ServiceOffer {
  /** The socket where front-ends come in, where that is one that listens. */
  readonly listening: Descriptor | undefined;
  /** As `Succession.offer` has it. */
  readonly device: unknown;
}

export interface FrontEndSaved {
  /** Counts those that came, from 1. */
  readonly number: number;
  readonly counts: Counts;
  readonly session: SessionState;
}

/** Of a process that has died. What it has counted is lost. */
export interface FrontEndLeft {
  readonly number: number;
  readonly session: SessionState;
  /** Once it goes on here. */
  keep(session: KeptSession): SessionKeeper;
  /** It can't, for the reason that a sentence gives. `isTaken`: its descriptors are somebody's. */
  refuse(reason: string, isTaken: boolean): void;
}

/** Has what a front-end says kept where it outlives this process. */
export type KeepFrontEnd = (number: number, session: KeptSession) => SessionKeeper;

/** When no ring runs any more. */
export interface ServiceState {
  readonly frontEndCount: number;
  readonly frontEnds: readonly FrontEndSaved[];
  readonly queues: readonly QueueCounts[];
  readonly brokenRings: number;
  /** As `Succession.give` has it. */
  readonly device: unknown;
}

/** Of the process that would take over if this one died; undefined: none could. */
export interface StandbyState {
  pid: number | undefined;
}
