// A device's program from its command line to its end: tells by the exit status whose mistake a failure was.
import { basename } from "node:path";
import manifest from "../../package.json" with { type: "json" };
import { valuesOf } from "../command-line/from-options.ts";
import { optionFor } from "../command-line/option-name.ts";
import {
  CommanderError,
  STATUS_FAILED,
  STATUS_USAGE,
  UsageError,
  usageSentence,
} from "../command-line/program.ts";
import type { DeviceProgram } from "../devices/program.ts";
import { StartError } from "../errors.ts";
import type { OptionTable, ValuesOf } from "../options/option.ts";
import { CONTROL_ENDING } from "../process/control-directories.ts";
import { createLog } from "../process/log.ts";
import { nameProcess } from "../process/name.ts";
import { isTooManyFiles, TOO_MANY_FILES } from "../process/open-files.ts";
import { writeError } from "../process/output.ts";
import { printable, programArguments } from "../process/paths.ts";
import { SUCCESSOR_FD } from "../upgrade/messages.ts";
import type { Predecessor } from "../upgrade/predecessor.ts";
import { accessOf, commandLineOf, observabilityOf } from "./command-line.ts";
import type { DaemonOptions } from "./daemon.ts";
import { type Devices, devicesOf } from "./devices.ts";
import { FRAME_OPTIONS, type FrameValues } from "./frame-options.ts";

const EXIT_MS = 200;

/** What was given, by name. Throws UsageError for what can't be understood. */
function readCommandLine(program: DeviceProgram): Record<string, unknown> {
  const command = commandLineOf(program);
  try {
    return command.parse(programArguments(), { from: "user" }).opts();
  } catch (error) {
    if (!(error instanceof CommanderError) || error.exitCode === 0) throw error;
    if (error.code === "commander.excessArguments")
      throw new UsageError(`"${command.args[0]}" is no option: those begin with --`);
    throw new UsageError(usageSentence(error));
  }
}

/** Of all paths among the values: what a working directory that is gone would make useless. */
function pathsAmong(table: OptionTable, values: Readonly<Record<string, unknown>>): string[] {
  const names = Object.keys(table).filter((name) => table[name]!.type?.isPath);
  return names.map((name) => values[name]).filter((value) => typeof value === "string");
}

/** As `vringd ctl` knows it, or as its socket is called. */
function deviceNameOf({ controlSocket, socketPath, connect }: FrameValues): string | undefined {
  if (controlSocket !== undefined) return basename(controlSocket, CONTROL_ENDING);
  const path = socketPath ?? connect;
  return path && basename(path, ".sock");
}

/** It is this process's parent, which has started it for an upgrade, or to stand by. */
async function findPredecessor(name: string): Promise<Predecessor | undefined> {
  if (process.env[SUCCESSOR_FD] === undefined) return undefined;
  const { Predecessor } = await import("../upgrade/predecessor.ts");
  return Predecessor.find(name, manifest.version);
}

/** Those of a predecessor, as they are by now, or those that were given. */
async function chooseDevices(
  program: DeviceProgram,
  values: ValuesOf<OptionTable>,
  frame: FrameValues,
  predecessor: Predecessor | undefined,
): Promise<Devices> {
  try {
    return await devicesOf(program, values, frame, predecessor?.offer.members);
  } catch (error) {
    await predecessor?.refuse(sentenceOf(error));
    throw error;
  }
}

async function main(program: DeviceProgram): Promise<void> {
  const given = readCommandLine(program);
  const values: ValuesOf<OptionTable> = valuesOf(program.options, given);
  const frame = valuesOf(FRAME_OPTIONS, given);
  const { metrics } = frame;
  const predecessor = await findPredecessor(program.name);
  const { first, changes } = await chooseDevices(program, values, frame, predecessor);
  const entrances = first.map(({ entrance }) => entrance);
  const options: DaemonOptions = {
    name: program.name,
    devices: first,
    changes,
    predecessor,
    access: accessOf(frame, entrances),
    once: frame.once,
    packed: frame.packed,
    standby: program.standsBy?.(values) ?? false,
    observability: observabilityOf(frame),
    paths: [
      ...pathsAmong(program.options, values),
      ...pathsAmong(FRAME_OPTIONS, frame),
      ...entrances.flatMap((entrance) => ("socketPath" in entrance ? [entrance.socketPath] : [])),
      ...(metrics && "path" in metrics ? [metrics.path] : []),
    ],
  };
  nameProcess(program.name);
  const [log, { runDaemon }] = await Promise.all([
    createLog(frame.logLevel, frame.logFormat, optionFor, deviceNameOf(frame)),
    // Loads koffi, which costs as much time as all the rest.
    import("./daemon.ts"),
  ]);
  await runDaemon(options, log);
}

function fail(error: unknown, name: string): void {
  if (error instanceof CommanderError) return; // --help and --version
  const isUsage = error instanceof UsageError;
  const sentence = sentenceOf(error);
  writeError(`${name}: ${sentence}${isUsage ? " (see --help)" : ""}\n`);
  process.exitCode = isUsage ? STATUS_USAGE : STATUS_FAILED;
  if (!isUsage) exitSoon();
}

function unexpected(error: NodeJS.ErrnoException): string {
  if (isTooManyFiles(error)) return TOO_MANY_FILES;
  return error.stack ?? String(error);
}

function sentenceOf(error: unknown): string {
  if (error instanceof StartError) return printable(error.told(optionFor));
  return error instanceof UsageError ? printable(error.message) : unexpected(error as NodeJS.ErrnoException);
}

/** A worker that got further than the failure, and waits in native code, would keep the process for ever. */
function exitSoon(): void {
  setTimeout(async () => {
    try {
      (await import("../linux/libc.ts")).exitNow(STATUS_FAILED);
    } catch {
      // What can't be loaded has started no worker.
      process.exit(STATUS_FAILED);
    }
  }, EXIT_MS).unref();
}

export function run(program: DeviceProgram): void {
  main(program).catch((error) => fail(error, program.name));
}
