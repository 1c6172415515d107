// What a process that has died has left with its service manager: front-ends, each of which this one can go on with or not.
import type { SessionState } from "../../backend/service-state.ts";
import type { HandedDescriptor } from "../../linux/handed-descriptors.ts";
import { close } from "../../linux/libc.ts";
import { duplicate } from "../../linux/open-file.ts";
import { decodeDocument } from "../document.ts";
import type { RecordHead } from "./kept-front-end.ts";
import { type FrontEndKey, fileNumber, stateKey } from "./names.ts";
import { StateRecord } from "./record.ts";
import type { LeftParts } from "./store.ts";

/** Its descriptors are whoever's who takes it, or close() ends them. */
export interface LeftFrontEnd extends LeftParts {
  readonly state: SessionState;
}

export class Left {
  /** In the order in which they came. */
  readonly keys: readonly FrontEndKey[];
  private readonly records = new Map<FrontEndKey, HandedDescriptor>();
  private readonly files = new Map<string, number>();

  /** Takes those of these that are ours. */
  constructor(handed: readonly HandedDescriptor[]) {
    for (const descriptor of handed) {
      const key = stateKey(descriptor.name);
      if (key !== undefined) this.records.set(key, descriptor);
      else if (fileNumber(descriptor.name) !== undefined) this.files.set(descriptor.name, descriptor.fd);
    }
    this.keys = [...this.records.keys()].sort((a, b) => a.frontEnd - b.frontEnd);
  }

  get names(): string[] {
    return [...this.files.keys(), ...[...this.records.values()].map(({ name }) => name)];
  }

  /** One past the highest number among the files. */
  get nextNumber(): number {
    return Math.max(0, ...[...this.files.keys()].map((name) => fileNumber(name)! + 1));
  }

  /** Throws RangeError, which says why nobody can go on with it. Takes nothing then. */
  read(key: FrontEndKey, program: string): LeftFrontEnd {
    const record = StateRecord.of(this.records.get(key)!.fd);
    const text = record.read();
    const end = text.indexOf("\n");
    const head: RecordHead = JSON.parse(text.slice(0, end));
    if (head.program !== program) throw new RangeError(`it was ${head.program} that served it`);
    for (const name of head.names) this.check(name);
    // Two front-ends may have sent the same file.
    const fds = head.names.map((name) => duplicate(this.files.get(name)!));
    const state = decodeDocument({ text: text.slice(end + 1), fds }) as SessionState;
    const connectedForMs = state.connectedForMs + Math.max(0, Date.now() - head.savedAtMs);
    this.records.delete(key);
    return {
      state: { ...state, connectedForMs },
      record,
      files: new Map(fds.map((fd, i) => [fd, head.names[i]!])),
    };
  }

  /** Of what was not read, or is by a descriptor of its own by now. */
  close(): void {
    for (const { fd } of this.records.values()) close(fd);
    for (const fd of this.files.values()) close(fd);
  }

  private check(name: string): void {
    if (this.files.has(name)) return;
    throw new RangeError(
      `its descriptor ${name} was not kept: FileDescriptorStoreMax= may be too small, or the manager too old`,
    );
  }
}

/** Nobody goes on with it. */
export function closeLeft({ record, files }: LeftParts): void {
  record.close();
  for (const fd of files.keys()) close(fd);
}
