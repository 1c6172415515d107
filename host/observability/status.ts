// What `GET /v1/status` answers: what runs here, and what state it is in. Described in schema/control.openapi.json.

import manifest from "../../package.json" with { type: "json" };
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
  entrance: Entrance;
  frontEnd: { connectedSeconds: number; features: string[]; protocolFeatures: string[] } | null;
  rings: RingStatus[];
  disk?: DiskStatus;
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

export function statusOf({ name, entrance, backend }: Subject, logLevel: string): Status {
  const { device, workers } = backend;
  return {
    program: name,
    device: device.type,
    version: manifest.version,
    pid: process.pid,
    uptimeSeconds: process.uptime(),
    engine: workers.engine,
    threads: workers.threads,
    logLevel,
    ...device.facts?.status,
    entrance,
    frontEnd: describeFrontEnd(backend),
    rings: describeRings(backend),
  };
}

function describeFrontEnd({ frontEnd: state, device }: Subject["backend"]): Status["frontEnd"] {
  if (state === undefined) return null;
  return {
    connectedSeconds: (performance.now() - state.connectedAtMs) / 1000,
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
