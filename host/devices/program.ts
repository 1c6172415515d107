// What makes a program of a device: its name, what it says of itself to management software, and its options. Everything of a
// program beside these is the same for all devices (host/programs).
import type { BackendCapabilities } from "../../build/schemas.js";
import type { OptionTable, ValuesOf } from "../options/option.ts";
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
  /** Makes the device. Throws StartError; what it has opened is closed by the device's close(). */
  open(values: ValuesOf<T>, context: OpenContext): Promise<AnyDevice>;
}

export interface OpenContext {
  /** Ends a wait, such as for a lock. */
  readonly stopping: AbortSignal;
  readonly log: Log;
}

/** A device's program, whose options open() gets by their types. */
export function deviceProgram<T extends OptionTable>(program: DeviceProgram<T>): DeviceProgram {
  return program as unknown as DeviceProgram;
}
