// The command line of a device's program: its own options between those that all have, and what follows from them together.
import manifest from "../../package.json" with { type: "json" };
import { addOptions } from "../command-line/from-options.ts";
import { type Command, newProgram, UsageError } from "../command-line/program.ts";
import type { DeviceProgram } from "../devices/program.ts";
import type { ObserverChoice } from "../observability/observability.ts";
import { flagOf, type OptionTable } from "../options/option.ts";
import { CONTROL_ENDING } from "../process/control-directories.ts";
import type { AccessChoice, Entrance } from "../protocol/entrance.ts";
import {
  ENTRANCE_OPTIONS,
  type FrameValues,
  LOG_OPTIONS,
  OBSERVER_OPTIONS,
  RING_OPTIONS,
} from "./frame-options.ts";

const ENTRANCES = "(--socket-path=PATH|--connect=PATH|--fd=N)";

/** All options, for whoever reads them: the program, its manual page, and shells. */
export function commandLineOf({ name, description, options }: DeviceProgram): Command {
  const command = newProgram(name).description(description).usage(usageOf(options));
  addOptions(command, {
    ...ENTRANCE_OPTIONS,
    ...options,
    ...RING_OPTIONS,
    ...OBSERVER_OPTIONS,
    ...LOG_OPTIONS,
  });
  return command
    .version(manifest.version, "-V, --version", "tell the version, and end")
    .helpOption("-h, --help", "tell all this, and end")
    .addHelpText("after", "\nExit status: 0 when told to end, 1 if it can't start, 2 for a wrong option.");
}

function usageOf(options: OptionTable): string {
  const required = Object.entries(options).filter(([, each]) => each.required !== undefined);
  return [...required.map(([name, { value }]) => `${flagOf(name)}=${value}`), ENTRANCES, "..."].join(" ");
}

/** Throws UsageError unless there is one. */
export function entranceOf({ socketPath, connect, fd }: FrameValues): Entrance {
  const given: [flag: string, entrance: Entrance][] = [];
  if (socketPath !== undefined) given.push(["--socket-path", { socketPath }]);
  if (connect !== undefined) given.push(["--connect", { connect }]);
  if (fd !== undefined) given.push(["--fd", { fd }]);
  const [first, second] = given;
  if (first === undefined)
    throw new UsageError(
      "--socket-path or --fd is missing, or --connect: where the virtual machine connects",
    );
  if (second !== undefined) throw new UsageError(`${first[0]} and ${second[0]} exclude each other`);
  return first[1];
}

/** Each of several devices has its own. Throws UsageError where there is one beside. */
export function refuseEntrance({ socketPath, connect, fd }: FrameValues): void {
  const given = Object.entries({ socketPath, connect, fd }).find(([, value]) => value !== undefined);
  if (given !== undefined)
    throw new UsageError(
      `${flagOf(given[0])} is of no use here: each of several devices has a socket of its own`,
    );
}

/** Who may connect to each entrance. */
export function accessOf(
  { socketGroup, socketMode }: FrameValues,
  entrances: readonly Entrance[],
): AccessChoice {
  // Each is looked at when its device is added.
  if (entrances.length === 0) return { group: socketGroup, mode: socketMode };
  const paths = entrances.map((each) => ("socketPath" in each ? each.socketPath : undefined));
  const path = paths.find((each) => each?.startsWith("@")) ?? paths[0];
  return accessTo("--socket", socketGroup, socketMode, "--socket-path", path);
}

export function observabilityOf(values: FrameValues): ObserverChoice {
  const { controlSocket, controlSocketGroup, controlSocketMode, metrics, metricsGroup, metricsMode } = values;
  const metricsPath = metrics && "path" in metrics ? metrics.path : undefined;
  return {
    metrics,
    controlAccess: accessTo(
      "--control-socket",
      controlSocketGroup,
      controlSocketMode,
      "--control-socket",
      controlSocket,
    ),
    metricsAccess: accessTo("--metrics", metricsGroup, metricsMode, "--metrics=unix:PATH", metricsPath),
  };
}

/** `prefix`: of the options that say who may connect; they mean nothing without a socket that is a file. */
export function accessTo(
  prefix: string,
  group: string | undefined,
  mode: number | undefined,
  option: string,
  path: string | undefined,
): AccessChoice {
  if (group === undefined && mode === undefined) return {};
  const name = group === undefined ? `${prefix}-mode` : `${prefix}-group`;
  if (path === undefined) throw new UsageError(`${name} is of no use without ${option}`);
  if (path.startsWith("@"))
    throw new UsageError(`${name} and ${path} exclude each other: an abstract name has no group and no mode`);
  return { group, mode };
}

/** Of one of several devices: "vms.control" becomes "vms-4.control". */
export function controlSocketOf(path: string | undefined, member: string | undefined): string | undefined {
  if (path === undefined || member === undefined) return path;
  if (!path.endsWith(CONTROL_ENDING)) return `${path}-${member}`;
  return `${path.slice(0, -CONTROL_ENDING.length)}-${member}${CONTROL_ENDING}`;
}
