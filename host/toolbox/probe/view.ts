// What `vringd probe` prints for people.
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import { type DiskFacts, logicalBlockSize } from "../../front-end/disk-facts.ts";
import { formatRow } from "../rows.ts";
import { formatBytes } from "../units.ts";
import type { ProbedDisk, ProbedStranger, ProbeReport } from "./probe.ts";
import type { FittingType } from "./types.ts";

const INDENT = "physical block  ".length;
const NOT_TOLD = "not told";

type Row = [label: string, text: string];

export function reportLines(report: ProbeReport): string[] {
  const { device } = report;
  const rows: Row[] = [
    ["socket", report.socketPath],
    ...("disk" in device ? diskRows(device) : strangerRows(device)),
    ["queues", `${report.queueCount} at the most`],
    ["memory slots", memorySlots(report)],
    ["inflight", report.offersInflight ? "regions are offered" : "regions are not offered"],
    ["features", list(report.featureNames)],
    ["protocol", report.protocolFeatures === undefined ? "no features" : list(report.protocolFeatureNames)],
  ];
  return rows.flatMap(([label, text]) => formatRow(label, text, INDENT));
}

/** The program's --print-capabilities tells the type for sure. */
function strangerRows({ noDisk, mayBe, config }: ProbedStranger): Row[] {
  return [
    ["device", `no disk: ${noDisk}`],
    ["type", mayBe.length === 0 ? "unknown" : `not told; it looks like ${orList(mayBe)}`],
    ["config space", config.length === 0 ? NOT_TOLD : bytesOf(config)],
  ];
}

function diskRows({ disk, serial }: ProbedDisk): Row[] {
  return [
    ["capacity", capacity(disk)],
    ["access", disk.readOnly ? "read-only" : "read and write"],
    ["serial", "text" in serial ? serial.text || "empty" : `not known: ${serial.unknown}`],
    ["block size", disk.blockSize === undefined ? "not told, so 512 bytes" : formatBytes(disk.blockSize)],
    ["physical block", physicalBlock(disk)],
    ["minimum I/O", size(disk.minimumIoSize)],
    ["optimal I/O", disk.optimalIoSize === 0 ? "no preference" : size(disk.optimalIoSize)],
    ["seg_max", disk.segMax === undefined ? NOT_TOLD : `${disk.segMax} segments a request`],
    ["size_max", sizeMax(disk)],
    ["num_queues", disk.numQueues === undefined ? "not told, so 1" : String(disk.numQueues)],
    ["write cache", writeCache(disk)],
    ["discard", discard(disk)],
    ["write zeroes", writeZeroes(disk)],
  ];
}

function capacity({ capacitySectors }: DiskFacts): string {
  const bytes = capacitySectors * BigInt(SECTOR_SIZE);
  return `${formatBytes(Number(bytes))} (${plural(capacitySectors, "sector")} of 512 bytes)`;
}

function physicalBlock({ physicalBlockSize, alignmentOffset }: DiskFacts): string {
  const text = size(physicalBlockSize);
  return alignmentOffset ? `${text}, the first at ${formatBytes(alignmentOffset)}` : text;
}

function size(byteLength: number | undefined): string {
  return byteLength === undefined ? NOT_TOLD : formatBytes(byteLength);
}

/** QEMU offers the feature and says 0. */
function sizeMax({ sizeMax: bytes }: DiskFacts): string {
  if (bytes === undefined) return NOT_TOLD;
  return bytes === 0 ? "0, which can only mean no limit" : `${formatBytes(bytes)} a segment`;
}

function writeCache({ writeCache, canSetWriteCache, canFlush }: DiskFacts): string {
  const what = writeCache === "writeback" ? "write-back" : "write-through";
  const can = [canFlush ? "can be flushed" : "", canSetWriteCache ? "can be turned on and off" : ""];
  return [what, ...can.filter((phrase) => phrase !== "")].join(", ");
}

function discard(disk: DiskFacts): string {
  if (disk.discard === undefined) return "not offered";
  const { maxSectors, maxSegments, alignmentSectors } = disk.discard;
  const aligned = formatBytes(Math.max(alignmentSectors * SECTOR_SIZE, logicalBlockSize(disk)));
  return `${ranges(maxSectors, maxSegments)}, aligned to ${aligned}`;
}

function writeZeroes({ writeZeroes: offered }: DiskFacts): string {
  if (offered === undefined) return "not offered";
  return `${ranges(offered.maxSectors, offered.maxSegments)}, ${offered.mayUnmap ? "may unmap" : "never unmaps"}`;
}

function ranges(maxSectors: number, maxSegments: number): string {
  return `up to ${plural(maxSectors, "sector")} (${formatBytes(maxSectors * SECTOR_SIZE)}) in ${plural(maxSegments, "segment")}`;
}

/** Back-ends give zeroes for what lies past the end of a device's space. */
function bytesOf(config: Buffer): string {
  const end = config.findLastIndex((byte) => byte !== 0) + 1;
  const bytes = [...config.subarray(0, end)].map((byte) => byte.toString(16).padStart(2, "0"));
  const zeroes = config.length - end;
  return [...bytes, ...(zeroes > 0 ? [`and ${zeroes} times 00`] : [])].join(" ");
}

function orList(types: readonly FittingType[]): string {
  return types.map(({ type }) => type).join(" or ");
}

function memorySlots({ maxMemorySlots }: ProbeReport): string {
  return maxMemorySlots === undefined ? "not told: one table of 8 regions" : String(maxMemorySlots);
}

function list(names: readonly string[]): string {
  return names.join(" ") || "none";
}

function plural(count: number | bigint, noun: string): string {
  return `${count} ${noun}${Number(count) === 1 ? "" : "s"}`;
}
