// What is asked of a back-end that carries sockets, and what came of it.
import { type Spread, spreadOf } from "../statistics.ts";
import type { SocketContender } from "./contenders.ts";

export interface Load {
  readonly name: string;
  /** Round trips, of a byte each, or bytes one way. */
  readonly kind: "to the host" | "to the guest" | "there and back";
  /** Of the sender's. */
  readonly writeBytes: number;
}

export const LOADS: readonly Load[] = [
  { name: "guest to host, 64 KiB writes", kind: "to the host", writeBytes: 64 << 10 },
  { name: "guest to host, 1 KiB writes", kind: "to the host", writeBytes: 1 << 10 },
  { name: "host to guest, 64 KiB writes", kind: "to the guest", writeBytes: 64 << 10 },
  { name: "host to guest, 1 KiB writes", kind: "to the guest", writeBytes: 1 << 10 },
  { name: "there and back, 1 byte", kind: "there and back", writeBytes: 1 },
];

/** MiB, or round trips. */
export interface Sample {
  readonly aSecond: number;
  /** Processor time of the back-end: milliseconds for a MiB, or microseconds for a round trip. */
  readonly processor: number;
}

/** `carry` returns how many bytes, or round trips, it brought about. */
export function sample(contender: SocketContender, { kind }: Load, carry: () => number): Sample {
  const [startNs, start] = [contender.processorNs, performance.now()];
  const count = carry();
  const seconds = (performance.now() - start) / 1000;
  const processorNs = contender.processorNs - startNs;
  if (kind === "there and back") return { aSecond: count / seconds, processor: processorNs / 1000 / count };
  const mebibytes = count / 2 ** 20;
  return { aSecond: mebibytes / seconds, processor: processorNs / 1e6 / mebibytes };
}

/** By load, and then by contender: ours first. */
export type Samples = ReadonlyMap<Load, Sample[][]>;

export function tell(title: string, names: readonly string[], samples: Samples): void {
  console.log(`\n${title}: median (least to most)`);
  for (const [{ name, kind }, taken] of samples) {
    const isTrip = kind === "there and back";
    const units = isTrip ? ["a second", "us a trip"] : ["MiB/s", "ms/MiB"];
    const spreads = taken.map((of) => [
      spreadOf(of.map(({ aSecond }) => aSecond)),
      spreadOf(of.map(({ processor }) => processor)),
    ]);
    for (const [j, [speed, cost]] of spreads.entries())
      console.log(
        `${name.padEnd(29)} ${names[j]!.padEnd(18)} ${text(speed!, units[0]!)}; processor ${text(cost!, units[1]!)}`,
      );
    if (spreads.length > 1) console.log(`${" ".repeat(29)} ${ratioText(spreads)}`);
  }
}

function ratioText([ours, theirs]: Spread[][]): string {
  const ratio = (i: number) => (ours![i]!.median / theirs![i]!.median).toFixed(2);
  return `ours by theirs: ${ratio(0)} of the speed, ${ratio(1)} of the processor time`;
}

function text({ median, min, max }: Spread, unit: string): string {
  return `${number(median)} ${unit} (${number(min)} to ${number(max)})`;
}

function number(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
