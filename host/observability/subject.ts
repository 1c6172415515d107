// What there is to observe: the running device, as it shows itself to those who only look.

import type { Entrance } from "../protocol/entrance.ts";
import type { StorageFacts } from "../storage/storage.ts";
import type { DataPlane } from "../workers/data-plane.ts";

export interface Subject {
  entrance: Entrance;
  disk: Pick<StorageFacts, "name" | "byteLength" | "blockSize" | "readOnly" | "direct">;
  dataPlane: Pick<DataPlane, "engine" | "threads" | "faults" | "statistics" | "counters">;
  /** The front-end that is served now, if one is. */
  frontEnd: () => FrontEndState | undefined;
}

export interface FrontEndState {
  /** As performance.now() has it. */
  connectedAtMs: number;
  /** What it has negotiated so far. */
  features: bigint;
  protocolFeatures: bigint;
}
