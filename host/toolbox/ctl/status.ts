// `vringd ctl SOCKET status` for people.
import type { DiskStatus, RingStatus, Status } from "../../observability/status.ts";
import { type Column, formatTable } from "../table.ts";
import { paint, wrap } from "../terminal.ts";
import { formatBytes, formatSpan } from "../units.ts";

const LABEL = 11;

/** Those whose names say little to an operator. */
const ENGINES: Readonly<Record<string, string>> = {
  disk: "the event loop",
  chains: "the event loop",
  rbd: "librbd",
};

const COLUMNS: Column[] = [
  { title: "RING", least: 4, align: "right" },
  { title: "STATE", least: 8 },
  { title: "SIZE", least: 5, align: "right" },
  { title: "FORMAT", least: 6 },
  { title: "EVENT INDEX", least: 11, canGo: true },
  { title: "IN FLIGHT", least: 9, align: "right", canGo: true },
  { title: "WHY", least: 20 },
];

export function statusLines(status: Status, width: number): string[] {
  const { program, version, pid, uptimeSeconds, engine, threads, logLevel, rings } = status;
  const labelled: [string, string][] = [
    [program, `${version}, process ${pid}, up ${formatSpan(uptimeSeconds)}`],
    [
      "serves by",
      `${ENGINES[engine] ?? engine}, in ${threads} ${threads === 1 ? "thread" : "threads"}; logs ${logLevel}`,
    ],
    ...standbyOf(status),
    ...detailsOf(status),
    ...frontEndOf(status),
    ["rings", countStates(rings)],
  ];
  const lines = labelled.flatMap(([label, text]) => {
    const [first, ...more] = wrap(text, width - LABEL);
    return [
      `${paint("bold", label.padEnd(LABEL - 1))} ${first}`,
      ...more.map((line) => " ".repeat(LABEL) + line),
    ];
  });
  const active = rings.filter(({ state }) => state !== "stopped");
  return active.length === 0 ? lines : [...lines, "", ...ringTable(active, width)];
}

const OF_EVERY_DEVICE = [
  "program",
  "device",
  "version",
  "pid",
  "uptimeSeconds",
  "engine",
  "threads",
  "logLevel",
  "standby",
  "entrance",
  "frontEnd",
  "frontEnds",
  "rings",
];

function standbyOf({ standby }: Status): [string, string][] {
  if (standby === undefined) return [];
  const what = standby.pid === null ? "none is ready" : `process ${standby.pid} takes over if this one dies`;
  return [["standby", what]];
}

/** What a device adds: of a disk a sentence, of others what they say. */
function detailsOf(status: Status): [string, string][] {
  const { disk, ...others } = status;
  const own = Object.entries(others).filter(([name]) => !OF_EVERY_DEVICE.includes(name));
  const details = own.map(([name, value]): [string, string] => [name, membersOf(value)]);
  return disk === undefined ? details : [["disk", describeDisk(disk)], ...details];
}

/** What is worth a word: that it can't be used here now. */
const LOCKS = {
  held: "",
  none: "",
  released: ", lock let go",
  waits: ", waits for its lock",
  fenced: ", fenced off: another client has taken it, and all requests fail",
};
/** A request may take some seconds without anything being wrong. */
const SILENT_S = 10;

function describeDisk({
  path,
  sizeBytes,
  blockSizeBytes,
  readOnly,
  direct,
  lock = "none",
  silentSeconds = 0,
}: DiskStatus): string {
  const access = readOnly ? "read-only" : "read and written";
  const cache = direct ? ", past the page cache" : "";
  const size = `${formatBytes(sizeBytes)} in blocks of ${formatBytes(blockSizeBytes)}`;
  const silence = silentSeconds < SILENT_S ? "" : `, unanswered for ${silentSeconds} s`;
  return `${path}: ${size}, ${access}${cache}${LOCKS[lock]}${silence}`;
}

function membersOf(value: unknown): string {
  const members = Object.entries(value as Record<string, unknown>);
  return members
    .map(([name, member]) => `${name} ${typeof member === "object" ? JSON.stringify(member) : member}`)
    .join(", ");
}

function placeOf(entrance: Status["entrance"]): string {
  if ("fd" in entrance) return `descriptor ${entrance.fd}`;
  return "connect" in entrance ? entrance.connect : entrance.socketPath;
}

function frontEndOf({ frontEnd, frontEnds, entrance }: Status): [string, string][] {
  const where = placeOf(entrance);
  if (frontEnd === null) return [["front-end", `none; awaited at ${where}`]];
  const { connectedSeconds, features, protocolFeatures } = frontEnd;
  return [
    ["front-end", `connected at ${where} for ${formatSpan(connectedSeconds)}`],
    ["features", shorten(features, /^VIRTIO_([A-Z]+_)?F_|^VHOST_USER_F_/)],
    ["protocol", shorten(protocolFeatures, /^VHOST_USER_PROTOCOL_F_/)],
    ...othersOf(frontEnds),
  ];
}

/** A predecessor of this version knows of none. */
function othersOf(frontEnds: Status["frontEnds"] = []): [string, string][] {
  if (frontEnds.length < 2) return [];
  const others = frontEnds.filter(({ served }) => !served);
  return others
    .slice(-1)
    .map(({ connectedSeconds }) => [
      "another",
      `connected for ${formatSpan(connectedSeconds)}; served once the rings of the first are stopped`,
    ]);
}

function shorten(names: readonly string[], prefix: RegExp): string {
  return names.map((name) => name.replace(prefix, "")).join(" ") || "none yet";
}

function countStates(rings: readonly RingStatus[]): string {
  const counts = new Map<string, number>();
  for (const { state } of rings) counts.set(state, (counts.get(state) ?? 0) + 1);
  return [...counts].map(([state, count]) => `${count} ${state}`).join(", ");
}

function ringTable(rings: readonly RingStatus[], width: number): string[] {
  const rows = rings.map(({ index, state, size, format, eventIdx, inFlight, brokenBecause }) => [
    String(index),
    state,
    String(size),
    String(format),
    eventIdx ? "yes" : "no",
    String(inFlight),
    brokenBecause ?? "",
  ]);
  const [head, ...lines] = formatTable(COLUMNS, rows, width);
  return [
    paint("bold", head!),
    ...lines.map((line, at) => (rings[at]!.state === "broken" ? paint("red", line) : line)),
  ];
}
