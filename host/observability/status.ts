// What `GET /v1/status` answers: what runs here, and what state it is in. Described in schema/control.openapi.json.

import { resolve } from "node:path";
import manifest from "../../package.json" with { type: "json" };
import type { Entrance } from "../protocol/entrance.ts";
import type { RingState } from "../workers/statistics.ts";
import { featureNames, protocolFeatureNames } from "./feature-names.ts";
import type { Subject } from "./subject.ts";

export interface Status {
  version: string;
  pid: number;
  uptimeSeconds: number;
  engine: string;
  threads: number;
  logLevel: string;
  disk: { path: string; sizeBytes: number; blockSizeBytes: number; readOnly: boolean; direct: boolean };
  entrance: Entrance;
  frontEnd: { connectedSeconds: number; features: string[]; protocolFeatures: string[] } | null;
  rings: RingStatus[];
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

export function statusOf({ entrance, disk, dataPlane, frontEnd }: Subject, logLevel: string): Status {
  return {
    version: manifest.version,
    pid: process.pid,
    uptimeSeconds: process.uptime(),
    engine: dataPlane.engine,
    threads: dataPlane.threads,
    logLevel,
    disk: {
      path: resolve(disk.name),
      sizeBytes: Number(disk.byteLength),
      blockSizeBytes: disk.blockSize,
      readOnly: disk.readOnly,
      direct: disk.direct,
    },
    entrance,
    frontEnd: describeFrontEnd(frontEnd()),
    rings: describeRings(dataPlane),
  };
}

function describeFrontEnd(state: ReturnType<Subject["frontEnd"]>): Status["frontEnd"] {
  if (state === undefined) return null;
  return {
    connectedSeconds: (performance.now() - state.connectedAtMs) / 1000,
    features: featureNames(state.features),
    protocolFeatures: protocolFeatureNames(state.protocolFeatures),
  };
}

function describeRings({ statistics, faults }: Subject["dataPlane"]): RingStatus[] {
  return statistics.queues().map(({ index, state, size, isPacked, hasEventIdx, inFlight }) => {
    const isStopped = state === "stopped";
    return {
      index,
      state,
      size: isStopped ? null : size,
      format: isStopped ? null : isPacked ? "packed" : "split",
      eventIdx: isStopped ? null : hasEventIdx,
      inFlight,
      brokenBecause: state === "broken" ? (faults.get(index) ?? null) : null,
    };
  });
}
