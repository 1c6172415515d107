// One step of the core in words: its stores in their order, and between them what it asked of the kernel.
import { describeFault } from "../workers/faults.ts";
import type { Field } from "./fields.ts";
import type { Operation } from "./kernel.ts";
import { type Change, changesOf, type Line, statusName } from "./stores.ts";
import type { Store } from "./traced-core.ts";

export interface StepFacts {
  stores: readonly Store[];
  fields: readonly Field[];
  /** What the kernel had answered before, in words. */
  answers: readonly Line[];
  operations: readonly Operation[];
  calls: number;
  fault: number;
  sleeps: boolean;
  /** "#3": the request that a chain is of. */
  label(token: number): string;
  labelOfSlot(slot: number): string;
  describe(store: Store): Line;
}

export interface StepStory {
  title: string;
  lines: Line[];
}

export function tellStep(facts: StepFacts): StepStory {
  const changes = facts.stores.map((store) => changesOf(store, facts.fields));
  const taken: string[] = [];
  const untold = [...facts.operations];
  const lines: Line[] = [...facts.answers];
  let lastId = -1;
  for (const [i, change] of changes.entries()) {
    lines.push(facts.describe(facts.stores[i]!));
    const first = change[0];
    if (first?.field.kind === "entry.id") lastId = first.after;
    const token = takenToken(change, lastId);
    if (token === undefined) continue;
    taken.push(facts.label(token));
    const at = untold.findIndex((operation) => operation.token === token);
    if (at >= 0) lines.push(...untold.splice(at, 1).map((operation) => describeOperation(operation, facts)));
  }
  lines.push(...untold.map((operation) => describeOperation(operation, facts)));
  const again = untold.map(({ token }) => facts.label(token));
  lines.push(...describeEnd(facts, changes));
  return { title: titleOf(facts, taken, again, changes), lines };
}

/** The token of the chain that this store puts on record. */
function takenToken(changes: readonly Change[], lastId: number): number | undefined {
  const first = changes[0];
  if (first === undefined) return undefined;
  const { kind, index } = first.field;
  const isPackedTake = kind === "inflight.free_head" && changes.length === 2 && lastId >= 0;
  if (isPackedTake) return lastId;
  const isSplitTake = kind === "entry.inflight" && first.after === 1 && lastId < 0;
  return isSplitTake ? index : undefined;
}

function describeOperation(operation: Operation, { label }: Pick<StepFacts, "label">): Line {
  const { name, offset, byteLength, token } = operation;
  const extent = name === "FSYNC" ? "" : ` of ${byteLength} bytes at ${offset}`;
  return { code: `SQE ${name}`, text: `asks the kernel for ${label(token)}: ${name}${extent}` };
}

function describeEnd(facts: StepFacts, changes: readonly Change[][]): Line[] {
  const lines: Line[] = [];
  if (facts.calls > 0) lines.push({ code: "SQE WRITE", text: "calls the driver, by its eventfd" });
  else if (hasPublished(changes)) {
    lines.push({ text: "makes no call: the driver does not want one yet", clause: "virtio 2.7.7, 2.8.10" });
  }
  if (facts.fault !== 0) {
    lines.push({ text: `the ring is broken: ${describeFault(facts.fault)}. It takes nothing more` });
  } else if (facts.sleeps) {
    lines.push({ text: "has nothing left to do, and sleeps until a kick or an answer" });
  }
  return lines;
}

function hasPublished(changes: readonly Change[][]): boolean {
  return changes.some(([first]) => first?.field.kind === "used.idx" || first?.field.kind === "desc.flags");
}

function titleOf(facts: StepFacts, taken: string[], again: string[], changes: readonly Change[][]): string {
  const given = changes.flatMap(([first]) =>
    first?.field.kind === "status"
      ? [`${facts.labelOfSlot(first.field.index)} ${statusName(first.after)}`]
      : [],
  );
  const parts = [
    taken.length > 0 ? `takes ${taken.join(", ")}` : "",
    again.length > 0 ? `goes on with ${again.join(", ")}` : "",
    given.length > 0 ? `finishes ${given.join(", ")}` : "",
    facts.calls > 0 ? "calls the driver" : "",
    facts.fault !== 0 ? "finds the ring broken" : "",
  ].filter((part) => part !== "");
  return parts.length === 0 ? "finds nothing new" : parts.join("; ");
}
