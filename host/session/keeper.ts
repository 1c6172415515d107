// What a session tells of whoever keeps its state where it outlives this process.
import type { SessionState } from "./session-state.ts";

export interface KeptSession {
  /** Whether another process could go on if this one died now: all requests in flight are recorded where they outlive it. */
  readonly outlivesProcess: boolean;
  save(): SessionState;
}

export interface SessionKeeper {
  /** From here on a request may have been read that is not answered: whoever comes next could not go on. */
  reading(): void;
  /** All that was read is answered. */
  waiting(): void;
  /** A request has come, and its descriptors with it, whose numbers may have been those of others. */
  came(fds: readonly number[]): void;
  /** What no request has asked for. */
  changed(): void;
  /** The front-end has left. */
  end(): void;
}
