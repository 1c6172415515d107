// One manual page, section by section, in the order of man-pages(7).
import type { ArgumentEntry, CommandEntry, OptionEntry, Value } from "../../command-line/option-table.ts";
import type { Prose } from "./prose.ts";
import { block, bold, escaped, italic, line, section, subsection, tagged } from "./roff.ts";

export interface PageContext {
  name: string;
  /** Our other pages. */
  related: readonly string[];
  /** The toolbox's commands for what the program does. */
  tool: CommandEntry | undefined;
  prose: Prose;
  version: string;
}

/** These come where they belong; other sections of the prose stand before SEE ALSO. */
const LAST = ["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES"];
const PLACED = ["DESCRIPTION", ...LAST, "SEE ALSO"];

export function manualPage(command: CommandEntry, context: PageContext): string {
  const { name, prose, version } = context;
  const others = [...prose.keys()].filter((title) => !PLACED.includes(title));
  const parts = [
    `.\\" Made from the program's options and host/packaging/manual/pages at build.`,
    `.TH ${escaped(name).toUpperCase()} 1 "" "vringd ${version}" "vringd manual"`,
    ".ad l",
    ".nh",
    section("NAME"),
    `${escaped(name)} \\- ${line(escaped(summaryOf(command)))}`,
    section("SYNOPSIS"),
    ...synopsis(command),
    section("DESCRIPTION"),
    line(escaped(command.description)),
    ...blocks(prose, "DESCRIPTION"),
    ...moreOf(command),
    ...commandsOf(command),
    ...argumentsOf(command),
    ...optionsOf(command),
    ...(context.tool ? commandsOf(context.tool) : []),
    ...[...LAST, ...others].flatMap((title) => sectionOf(title, command, prose)),
    section("SEE ALSO"),
    ...blocks(prose, "SEE ALSO"),
    ".PP",
    context.related.map((other) => `${bold(other)}(1)`).join(", "),
  ];
  // A section begins a paragraph anyway.
  return `${parts.join("\n")}\n`.replace(/^(\.S[HS] .*)\n\.PP$/gm, "$1");
}

/** As lists of pages show it: without a capital and without a full stop. */
function summaryOf({ summary }: CommandEntry): string {
  const [first] = summary.split(/\.(?:\s|$)/);
  return first!.charAt(0).toLowerCase() + first!.slice(1);
}

function synopsis(command: CommandEntry): string[] {
  const commands = command.subcommands.length > 0 ? command.subcommands : [command];
  return commands.flatMap((each) => [".PP", usageOf(each)]);
}

/** The program's words are bold, what is to be replaced is in italics. */
function usageOf({ path, usage }: CommandEntry): string {
  const rest = usage.slice(path.length).replace(/^( \[options\])? \[command\]/, " COMMAND");
  return (
    bold(path) +
    rest.replace(/[^A-Z]+|[A-Z]+/g, (part) => (/^[A-Z]{2,}|^N$/.test(part) ? italic(part) : escaped(part)))
  );
}

function commandsOf({ subcommands }: CommandEntry): string[] {
  if (subcommands.length === 0) return [];
  return [section("COMMANDS"), ...subcommands.flatMap(commandPart)];
}

/** A subcommand with subcommands of its own has a page of its own. */
function commandPart(command: CommandEntry): string[] {
  const isLeaf = command.subcommands.length === 0;
  const isNested = command.path.split(" ").length > 2;
  if (!isLeaf || !isNested) {
    const page = `See ${bold(command.path.replaceAll(" ", "-"))}(1).`;
    return [tagged(bold(command.name), `${escaped(sentence(command.summary))} ${page}`)];
  }
  return [
    subsection(command.path),
    line(escaped(command.description)),
    ...command.arguments.map(argumentPart),
    ...command.options.filter(({ long }) => long !== "--help").map(optionPart),
    ...moreOf(command),
    ...exitStatus(command.epilogue),
  ];
}

function argumentsOf(command: CommandEntry): string[] {
  if (command.arguments.length === 0) return [];
  return [section("ARGUMENTS"), ...command.arguments.map(argumentPart)];
}

function argumentPart({ value, description, isVariadic }: ArgumentEntry): string {
  return tagged(italic(value.name) + (isVariadic ? " ..." : ""), escaped(explained(value, description)));
}

function optionsOf({ options }: CommandEntry): string[] {
  const groups = new Set(options.map(({ group }) => group));
  return [
    section("OPTIONS"),
    ...[...groups].flatMap((group) => [
      ...(groups.size > 1 ? [subsection(group)] : []),
      ...options.filter((option) => option.group === group).map(optionPart),
    ]),
  ];
}

function optionPart({ short, long, value, description }: OptionEntry): string {
  const flags = [short && bold(short), long && bold(long) + (value ? `=${italic(value.name)}` : "")];
  return tagged(flags.filter(Boolean).join(", "), escaped(explained(value, description)));
}

/** A list of choices is no sentence. */
function explained(value: Value | undefined, description: string): string {
  const isList = value?.choices.some((choice) => description.startsWith(choice));
  return isList ? `${description}.` : sentence(description);
}

const EXIT_STATUS = /^Exit status:\s+/;

/** What `--help` ends with tells the exit status, unless the prose tells more. */
function sectionOf(title: string, { epilogue, subcommands }: CommandEntry, prose: Prose): string[] {
  const isFromHelp = title === "EXIT STATUS" && !prose.has(title) && subcommands.length === 0;
  const parts = isFromHelp ? exitStatus(epilogue, "") : blocks(prose, title);
  return parts.length === 0 ? [] : [section(title), ...parts];
}

/** A sentence, or a line for each status. */
function exitStatus(epilogue: string, lead = "Exit status: "): string[] {
  const parts = paragraphs(epilogue).filter((part) => EXIT_STATUS.test(part));
  return parts.flatMap((part) => {
    const statuses = [...part.matchAll(/^ +(\d+) +(.+)$/gm)];
    if (statuses.length > 0)
      return statuses.map(([, status, text]) => tagged(bold(status!), escaped(sentence(text!))));
    return [".PP", escaped(sentence(part.replace(EXIT_STATUS, lead)))];
  });
}

/** What else it ends with, as it stands. */
function moreOf({ epilogue }: CommandEntry): string[] {
  const rest = paragraphs(epilogue).filter((part) => !EXIT_STATUS.test(part));
  return rest.map((part) => block({ type: "literal", lines: part.split("\n") }));
}

function paragraphs(text: string): string[] {
  return text === "" ? [] : text.split(/\n\n+/);
}

function blocks(prose: Prose, title: string): string[] {
  return (prose.get(title) ?? []).map(block);
}

/** With a capital, if it begins with a word, and a full stop. */
function sentence(text: string): string {
  const start = /^[a-z]+\b(?!-)/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return /[.:]$/.test(start) ? start : `${start}.`;
}
