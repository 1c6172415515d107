// What `vringd probe --json` prints. Names and meanings stay as they are; what a back-end does not tell is null.
import type { ProbedDisk, ProbedStranger, ProbeReport } from "./probe.ts";

export function reportAsJson(report: ProbeReport): unknown {
  return {
    socket: report.socketPath,
    // 64 bits are more than a number can tell apart.
    features: { mask: hex(report.features), names: report.featureNames },
    protocolFeatures:
      report.protocolFeatures === undefined
        ? null
        : { mask: hex(report.protocolFeatures), names: report.protocolFeatureNames },
    queueCount: report.queueCount,
    maxMemorySlots: report.maxMemorySlots ?? null,
    inflight: report.offersInflight,
    ...("disk" in report.device ? diskAsJson(report.device) : strangerAsJson(report.device)),
  };
}

function strangerAsJson({ noDisk, mayBe, config }: ProbedStranger) {
  return {
    disk: null,
    noDisk,
    mayBe: mayBe.map(({ type }) => type),
    config: config.length > 0 ? config.toString("hex") : null,
  };
}

function diskAsJson({ disk, serial }: ProbedDisk) {
  const { capacitySectors, discard, writeZeroes } = disk;
  return {
    serial: "text" in serial ? serial.text : null,
    serialUnknown: "unknown" in serial ? serial.unknown : null,
    disk: {
      capacitySectors: Number(capacitySectors),
      capacityBytes: Number(capacitySectors) * 512,
      readOnly: disk.readOnly,
      blockSize: disk.blockSize ?? null,
      physicalBlockSize: disk.physicalBlockSize ?? null,
      alignmentOffset: disk.alignmentOffset ?? null,
      minimumIoSize: disk.minimumIoSize ?? null,
      optimalIoSize: disk.optimalIoSize ?? null,
      sizeMax: disk.sizeMax ?? null,
      segMax: disk.segMax ?? null,
      numQueues: disk.numQueues ?? null,
      flush: disk.canFlush,
      writeCache: disk.writeCache,
      canSetWriteCache: disk.canSetWriteCache,
      discard: discard ?? null,
      writeZeroes: writeZeroes ?? null,
    },
  };
}

function hex(mask: bigint): string {
  return `0x${mask.toString(16)}`;
}
