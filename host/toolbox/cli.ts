// The command line of vringd, the toolbox: finds the subcommand, and tells by the exit status what came of it.
import { constants } from "node:os";
import manifest from "../../package.json" with { type: "json" };
import {
  type Command,
  CommanderError,
  newProgram,
  STATUS_FAILED,
  STATUS_USAGE,
  UsageError,
  usageSentence,
} from "../command-line/program.ts";
import { StartError } from "../errors.ts";
import { programArguments } from "../process/paths.ts";
import { addBackends } from "./backends/command.ts";
import { addBench } from "./bench/command.ts";
import { addCheck } from "./check/command.ts";
import { addCompletion } from "./completion/command.ts";
import { addDemo } from "./demo/command.ts";
import { addDoctor } from "./doctor/command.ts";
import { addExporter } from "./exporter/command.ts";
import { addCtl, addLs, addTop } from "./observe.ts";
import { addOverlay } from "./overlay/command.ts";
import { addProbe } from "./probe/command.ts";
import { complain, NAME } from "./terminal.ts";
import { addVsock } from "./vsock/command.ts";

/** All subcommands and their options, for whoever reads them: this program, its manual pages, and shells. */
export function commandLine(): Command {
  const program = newProgram(NAME)
    .description("The toolbox of vringd: for those who run vhost-user back-ends.")
    .version(manifest.version, "-V, --version", "tell the version, and end")
    .helpOption("-h, --help", "tell all this, and end")
    .helpCommand(false);
  addBackends(program);
  addCheck(program);
  addProbe(program);
  addBench(program);
  addDoctor(program);
  addDemo(program);
  addCompletion(program);
  addCtl(program);
  addLs(program);
  addTop(program);
  addExporter(program);
  addVsock(program);
  addOverlay(program);
  return program;
}

/** What many programs take as words, as options. */
function asOptions([first, ...rest]: readonly string[], program: Command): string[] {
  const isKnown = rest.length === 0 || program.commands.some((command) => command.name() === rest[0]);
  if (first === "help") return isKnown ? [...rest, "--help"] : rest;
  return first === "version" ? ["--version", ...rest] : [...(first === undefined ? [] : [first]), ...rest];
}

function fail(error: unknown): void {
  if (error instanceof CommanderError && error.exitCode === 0) return; // --help and --version
  if (error instanceof StartError) {
    complain(error.message);
    process.exitCode = STATUS_FAILED;
    return;
  }
  const sentence = usageMistake(error);
  if (sentence !== undefined) complain(`${sentence} (see --help)`);
  else process.stderr.write(`${NAME}: ${(error as Error).stack ?? error}\n`);
  process.exitCode = sentence === undefined ? STATUS_FAILED : STATUS_USAGE;
}

function usageMistake(error: unknown): string | undefined {
  if (error instanceof UsageError) return error.message;
  if (!(error instanceof CommanderError)) return undefined;
  return error.code === "commander.help" ? "a subcommand is missing" : usageSentence(error);
}

export function run(): void {
  // What runs for us is ended at exit, which a signal would skip.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => {
      // A subcommand that listens, too, ends by itself.
      if (process.listenerCount(signal) === 0) process.exit(128 + constants.signals[signal]);
    });
  }
  const program = commandLine();
  program.parseAsync(asOptions(programArguments(), program), { from: "user" }).catch(fail);
}
