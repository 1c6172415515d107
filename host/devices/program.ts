// What makes a program of a device: its name, what it says of itself to management software, and its options. Everything of a
// program beside these is the same for all devices (host/programs).
import type { BackendCapabilities } from "../../build/schemas.js";
import type { OptionTable, ValuesOf } from "../options/option.ts";
import type { OptionType } from "../options/types.ts";
import type { Log } from "../process/log.ts";
import type { AnyDevice } from "./engine-device.ts";

export interface DeviceProgram<T extends OptionTable = OptionTable> {
  /** Such as "vringd-rng". */
  readonly name: string;
  /** A sentence for `--help` and the manual page. */
  readonly description: string;
  /** What `--print-capabilities` prints (schema/backend-capabilities.schema.json). */
  readonly capabilities: BackendCapabilities;
  readonly options: T;
  /** Left out: a probe takes no device for one of this type. */
  readonly traits?: DeviceTraits;
  /**
   * Left out, or undefined: there is one device, which open() makes. `asked`: of a predecessor in whose place this process will be, its
   * members as they are by now (Member.asked), whatever the options name. Throws UsageError, and StartError.
   */
  members?(values: ValuesOf<T>, asked: readonly unknown[] | undefined): Promise<Members | undefined>;
  /** What a member that is added may be given. */
  readonly memberOptions?: OptionTable;
  /** Checks files that options name, by the property which such a file has at its top. Throws StartError. */
  readonly files?: Readonly<Record<string, (path: string) => Promise<void>>>;
  /** Whether a process is to be kept that serves as soon as this one has died. Left out: never. */
  standsBy?(values: ValuesOf<T>): boolean;
  /** Makes the device. Throws StartError; what it has opened is closed by the device's close(). */
  open(values: ValuesOf<T>, context: OpenContext): Promise<AnyDevice>;
}

/** Several devices that a process serves, each at an entrance of its own. */
export interface Members {
  /** From the start. */
  readonly first: readonly Member[];
  /** Left out: they are the same until the process ends. */
  readonly changes?: MemberChanges;
}

/** Members come and go while the process runs. */
export interface MemberChanges extends MemberWords {
  /** Whom somebody asks for. Throws StartError, which says what is wrong with that. */
  read(asked: unknown): Member;
}

/** What members are called in sentences and in paths of the control socket, and how many there may be. */
export interface MemberWords {
  readonly one: string;
  readonly many: string;
  readonly most: number;
}

export interface Member {
  /** Behind the names of control sockets, such as "4". */
  readonly name: string;
  /** What tells its metrics from the others', such as { guest_cid: "4" }, and its log lines. */
  readonly labels: Readonly<Record<string, string>>;
  readonly logFields: Readonly<Record<string, unknown>>;
  readonly socketPath: string;
  /** As it was asked for, for a successor. Left out: its options say the same there. */
  readonly asked?: unknown;
  /** What a list has of it, beside its name and its socket. */
  readonly shown?: Readonly<Record<string, string>>;
  readonly uses?: readonly Use[];
  open(context: OpenContext): Promise<AnyDevice>;
}

/** Something of which two members can't both be the user, unless both only read it. */
export interface Use {
  readonly path: string;
  readonly isRead: boolean;
}

const MEMBER_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;

/** It is a part of file names and of paths of the control socket. */
export const memberName: OptionType<string> = {
  takes: "a name of letters, digits, and . _ - behind the first, up to 63",
  read: (text) => (memberName.accepts(text) ? text : undefined),
  accepts: (value): value is string => typeof value === "string" && MEMBER_NAME.test(value),
};

/** What can be seen of a device from outside: nothing in the protocol names its type. */
export interface DeviceTraits {
  /** Whether such a device can have so many queues. */
  hasQueues(count: number): boolean;
  /** What the specification calls the bits that are the device's own, by bit. */
  readonly featureNames: Readonly<Record<number, string>>;
  /** Bits that every such device offers. */
  readonly requiredFeatures?: bigint;
  /** Of its config space; 0: it has none. */
  readonly configBytes: number;
  /** Whether so many bytes can be its config space. Left out: any can. */
  isConfig?(bytes: Uint8Array): boolean;
}

export interface OpenContext {
  /** Ends a wait, such as for a lock. */
  readonly stopping: AbortSignal;
  readonly log: Log;
  /** Where this process itself listens: entrances, control sockets, metrics. */
  readonly ownSockets: readonly string[];
  /** A predecessor has the device, in whose place this process will be, and has offered this (Succession.offer). */
  readonly inherited?: { readonly offer: unknown } | undefined;
}

/** A device's program, whose options open() gets by their types. */
export function deviceProgram<T extends OptionTable>(program: DeviceProgram<T>): DeviceProgram {
  return program as unknown as DeviceProgram;
}
