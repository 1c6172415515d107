// A device's place among those of a process, from when it is to start until nothing of it is left.
import type { DeviceChoice, Served } from "./served.ts";

export interface Place {
  readonly choice: DeviceChoice;
  readonly ending: AbortController;
  /** Undefined: it is not open yet. */
  served?: Served;
  /** Until its front-ends have left for good. Undefined: none is served yet. */
  run?: Promise<void>;
  /** While it is added or removed. */
  change?: Promise<unknown>;
}

export type PlaceState = "starting" | "waiting" | "connected" | "ending";

export function stateOf({ served, run, ending }: Place): PlaceState {
  if (ending.signal.aborted) return "ending";
  if (served === undefined || run === undefined) return "starting";
  return served.subject.backend.frontEnds.length > 0 ? "connected" : "waiting";
}

/** Sockets that it has, or is about to have. */
export function socketsOf({ choice: { entrance, controlSocket } }: Place): string[] {
  return [
    ...("socketPath" in entrance ? [entrance.socketPath] : []),
    ...(controlSocket === undefined ? [] : [controlSocket]),
  ];
}
