// Writes the manual pages of all programs, and of each subcommand of the toolbox: options as the programs parse them,
// and prose from pages/NAME.md, for those that have any.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import manifest from "../../../package.json" with { type: "json" };
import { type CommandEntry, tableOf } from "../../command-line/option-table.ts";
import { allPrograms } from "../../devices/index.ts";
import { commandLineOf } from "../../programs/command-line.ts";
import { commandLine as toolboxCommandLine } from "../../toolbox/cli.ts";
import { manualPage } from "./page.ts";
import { parseProse } from "./prose.ts";

const PROSE = "host/packaging/manual/pages";
const OUT = "build/man";

const toolbox = tableOf(toolboxCommandLine());
const daemons = (await allPrograms()).map((program) => tableOf(commandLineOf(program)));
/** One that is called as a program has no page of its own: it is part of the program's. */
const toolOf = (daemon: CommandEntry) => toolbox.subcommands.find((each) => pageName(each) === daemon.path);
const isTool = (command: CommandEntry) => daemons.some((daemon) => toolOf(daemon) === command);
const commands = [...daemons, toolbox, ...toolbox.subcommands.filter((each) => !isTool(each))];
const names = commands.map(pageName);

// The page of a subcommand that is gone must go, too.
rmSync(OUT, { recursive: true, force: true });
mkdirSync(OUT, { recursive: true });
for (const command of commands) {
  const name = pageName(command);
  const related = names.filter((other) => other !== name);
  const tool = daemons.includes(command) ? toolOf(command) : undefined;
  const text = manualPage(command, { name, related, tool, prose: proseOf(name), version: manifest.version });
  writeFileSync(join(OUT, `${name}.1`), text);
}

function pageName({ path }: CommandEntry): string {
  return path.replaceAll(" ", "-");
}

function proseOf(name: string) {
  const path = join(PROSE, `${name}.md`);
  return parseProse(existsSync(path) ? readFileSync(path, "utf8") : "");
}
