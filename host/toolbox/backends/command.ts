// `vringd backends`: its subcommands' options. What they do is loaded when they are called.

import type { BackendType } from "../../../build/schemas.js";
import schema from "../../../schema/backend-description.schema.json" with { type: "json" };
import { type Command, oneOf, timeoutOption } from "../../command-line/program.ts";
import { DEFAULT_TYPE, DEVICES } from "../../devices/index.ts";

const TIMEOUT_MAX = 60;

/** Options of those that search. */
export interface SearchOptions {
  type?: BackendType;
  features?: string[];
  directory?: string[];
  timeout: number;
  json?: true;
}

export function addBackends(program: Command): void {
  const backends = program
    .command("backends")
    .summary("find vhost-user back-ends, and make ours known")
    .description("Finds the vhost-user back-ends of this machine, as management software does.")
    .helpCommand(false);
  addList(backends);
  addShow(backends);
  addCheck(backends);
  addInstall(backends);
  addUninstall(backends);
}

function addList(backends: Command): void {
  searching(backends.command("list"))
    .summary("list those that fit")
    .description(
      "Lists the back-ends that fit. A star marks the first of each type, which management software takes.",
    )
    .option("--explain", "say of each file why it was taken or not")
    .addHelpText("after", exitStatus("0 if there are any, 1 if there are none"))
    .action(async (options) => {
      const { list } = await import("./list.ts");
      process.exitCode = await list(options);
    });
}

function addShow(backends: Command): void {
  searching(backends.command("show"))
    .summary("show all about one")
    .description("Shows all about one back-end: the file of that name, or else the first that fits.")
    .argument("[NAME]", "the name of its file, with or without .json")
    .addHelpText("after", exitStatus("0 if it is there and fits, 1 if not"))
    .action(async (name, options) => {
      const { show } = await import("./show.ts");
      process.exitCode = await show(name, options);
    });
}

function addCheck(backends: Command): void {
  backends
    .command("check")
    .summary("check description files")
    .description("Checks description files, or all in a directory; without a path, all that are searched.")
    .argument("[PATH...]", "files and directories")
    .option("--binary", "start the programs, too, and check what they answer")
    .option(...timeout)
    .option(...jsonOption)
    .addHelpText("after", exitStatus("0 if no file has errors, 1 otherwise"))
    .action(async (paths, options) => {
      const { check } = await import("./check.ts");
      process.exitCode = await check(paths, options);
    });
}

function addInstall(backends: Command): void {
  placing(backends.command("install"))
    .summary("make one of ours known to management software")
    .description("Writes the description of a program of ours, so that management software finds it.")
    .argument(...typeArgument)
    .option("--force", "overwrite a file that is not ours, or was edited")
    .addHelpText("after", exitStatus("0 if it is there now, 1 if not"))
    .action(async (type, options) => {
      const { install } = await import("./install.ts");
      process.exitCode = await install(type, options);
    });
}

function addUninstall(backends: Command): void {
  placing(backends.command("uninstall"))
    .summary("make it unknown again")
    .description("Removes the description of a program of ours, if it is ours, too.")
    .argument(...typeArgument)
    .addHelpText("after", exitStatus("0 if it was removed, 1 if not"))
    .action(async (type, options) => {
      const { uninstall } = await import("./install.ts");
      process.exitCode = await uninstall(type, options);
    });
}

/** Of those, what management software knows. */
const TYPES = Object.keys(DEVICES).filter((type) => schema.$defs.type.enum.includes(type));
const typeArgument = [
  "[TYPE]",
  `of its device: ${TYPES.join(", ")}`,
  oneOf(TYPES, "TYPE"),
  DEFAULT_TYPE,
] as const;

const jsonOption = ["--json", "print JSON, for programs"] as const;

const timeout = timeoutOption("how long a program may take to say what it can do", TIMEOUT_MAX, 2);

function searching(command: Command): Command {
  return command
    .option(
      "--type <TYPE>",
      `only of this type: ${schema.$defs.type.enum.join(", ")}`,
      oneOf(schema.$defs.type.enum, "--type"),
    )
    .option("--features <LIST>", "only with all of these features, such as read-only,blk-file", (text) =>
      text.split(",").filter((feature) => feature !== ""),
    )
    .option(
      "--directory <PATH>",
      "search here instead; to be repeated, from general to specific",
      (path, earlier: string[] | undefined) => [...(earlier ?? []), path],
    )
    .option(...timeout)
    .option(...jsonOption);
}

function placing(command: Command): Command {
  return command
    .option("--user", "for you alone, below $XDG_CONFIG_HOME or ~/.config (default)")
    .option(
      "--system",
      "for this machine, in /etc/qemu/vhost-user; libvirt's system daemon reads no user's files",
    )
    .option("--directory <PATH>", "in this directory");
}

function exitStatus(meaning: string): string {
  return `\nExit status: ${meaning}, 2 for wrong usage.`;
}
