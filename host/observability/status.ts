// What `GET /v1/status` answers: what runs here, and what state it is in. Described in schema/control.openapi.json.

import manifest from "../../package.json" with { type: "json" };
import type { FrontEndState } from "../backend/backend.ts";
import type { Entrance } from "../protocol/entrance.ts";
import { featureNames, protocolFeatureNames } from "../protocol/feature-names.ts";
import type { RingState } from "../workers/statistics.ts";
import type { Subject } from "./subject.ts";

/** What a disk adds. Other devices add objects of their own. */
export interface DiskStatus {
  path: string;
  sizeBytes: number;
  blockSizeBytes: number;
  readOnly: boolean;
  direct: boolean;
  /** Of a disk that can be handed to another process while its guest moves, or that others can take. */
  lock?: "held" | "released" | "waits" | "fenced" | "none";
  /** Of a disk that may not answer: for how long requests have waited while none was answered. */
  silentSeconds?: number;
}

export interface Status {
  /** The program's name. */
  program: string;
  /** The type, as --print-capabilities has it. */
  device: string;
  version: string;
  pid: number;
  uptimeSeconds: number;
  engine: string;
  threads: number;
  logLevel: string;
  /** Left out: none is kept. `pid`: of the process that would take over if this one died; null: none could now. */
  standby?: { pid: number | null };
  entrance: Entrance;
  /** The one that is served, or else the one that came first. */
  frontEnd: FrontEndStatus | null;
  /** All that are connected, in the order in which they came: two while a machine moves from one to the other. */
  frontEnds: FrontEndStatus[];
  rings: RingStatus[];
  disk?: DiskStatus;
}

export interface FrontEndStatus {
  connectedSeconds: number;
  /** Whether it is the one whose rings may run. */
  served: boolean;
  features: string[];
  protocolFeatures: string[];
}

export interface RingStatus {
  index: number;
  state: RingState;
  /** Of a ring that is stopped, size and format are not known. */
  size: number | null;
  format: "split" | "packed" | null;
  eventIdx: boolean | null;
  inFlight: number;
  brokenBecause: string | null;
}

export function statusOf({ name, entrance, standby, backend }: Subject, logLevel: string): Status {
  const { device, workers } = backend;
  const frontEnds = backend.frontEnds.map((each) => describeFrontEnd(each, device));
  return {
    program: name,
    device: device.type,
    version: manifest.version,
    pid: process.pid,
    uptimeSeconds: process.uptime(),
    engine: workers.engine,
    threads: workers.threads,
    logLevel,
    ...(standby && { standby: { pid: standby.pid ?? null } }),
    ...device.facts?.status,
    entrance,
    frontEnd: frontEnds.find(({ served }) => served) ?? frontEnds[0] ?? null,
    frontEnds,
    rings: describeRings(backend),
  };
}

function describeFrontEnd(
  state: FrontEndState,
  device: Pick<Subject["backend"]["device"], "featureNames">,
): FrontEndStatus {
  return {
    connectedSeconds: (performance.now() - state.connectedAtMs) / 1000,
    served: state.isServed,
    features: featureNames(state.features, device.featureNames),
    protocolFeatures: protocolFeatureNames(state.protocolFeatures),
  };
}

function describeRings({ activity, workers }: Subject["backend"]): RingStatus[] {
  return activity.queues().map(({ index, state, size, isPacked, hasEventIdx, inFlight }) => {
    const isStopped = state === "stopped";
    return {
      index,
      state,
      size: isStopped ? null : size,
      format: isStopped ? null : isPacked ? "packed" : "split",
      eventIdx: isStopped ? null : hasEventIdx,
      inFlight,
      brokenBecause: state === "broken" ? (workers.faults.get(index) ?? null) : null,
    };
  });
}
