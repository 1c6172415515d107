// What a device of chains and those who kill it agree on: its queues, its answers, and the journal of all its lives.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** A queue for each. */
export const RECOVERIES = ["repeat", "fail", "forget"] as const;

/** How an answer says what became of its chain. */
export const SERVED = 1;
export const FAILED = 2;

export function journalBeside(socketPath: string): string {
  return join(dirname(socketPath), "journal");
}

/** Of one chain: the lives in which it was begun, and those in which it was failed. */
export interface Entry {
  begun: number[];
  failed: number[];
}

/** By queue, then by serial, in the order of the journal. */
export function readJournal(path: string): Map<number, Entry>[] {
  const entries = RECOVERIES.map(() => new Map<number, Entry>());
  for (const line of linesOf(path)) {
    const [life, queue, serial, what] = line.split(" ");
    const ofQueue = entries[Number(queue)]!;
    const entry = ofQueue.get(Number(serial)) ?? { begun: [], failed: [] };
    ofQueue.set(Number(serial), entry);
    entry[what as keyof Entry].push(Number(life));
  }
  return entries;
}

/** Serials in the order in which this life began or failed them. */
export function orderOf(path: string, life: number, queue: number): number[] {
  return linesOf(path)
    .map((line) => line.split(" ").slice(0, 3).map(Number))
    .filter(([of, at]) => of === life && at === queue)
    .map(([, , serial]) => serial!);
}

function linesOf(path: string): string[] {
  return readFileSync(path, "utf8").split("\n").slice(0, -1);
}
