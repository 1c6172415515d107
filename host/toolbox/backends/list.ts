// `vringd backends list`
import { STATUS_FAILED } from "../../command-line/program.ts";
import type { Directory } from "../../discovery/description-files.ts";
import type { Discovery, Finding, Verdict } from "../../discovery/discovery.ts";
import { type Column, formatTable } from "../table.ts";
import { complain, paint, printable, printJson, printLines, terminalWidth, wrap } from "../terminal.ts";
import type { SearchOptions } from "./command.ts";
import { complainOfBroken, search, wanted } from "./search.ts";

const COLUMNS: Column[] = [
  { title: "", least: 1 },
  { title: "FILE", least: 16 },
  { title: "TYPE", least: 5 },
  { title: "FEATURES", least: 12 },
  { title: "BINARY", least: 16, cut: "start" },
  { title: "DESCRIPTION", least: 16, canGo: true },
];

export async function list(options: SearchOptions & { explain?: true }): Promise<number> {
  const discovery = await search(options);
  const fitting = discovery.findings.filter(({ verdict }) => verdict === "taken" || verdict === "fits");
  if (options.json) printJson(discovery);
  else if (options.explain) explain(discovery, options);
  else {
    if (fitting.length > 0) printTable(fitting);
    complainOfBroken(discovery);
    for (const { path, names, fault } of options.directory === undefined ? [] : discovery.directories)
      if (names === undefined && fault === undefined) complain(`${path}: there is no such directory`);
    if (fitting.length === 0)
      complain(`no back-end of ${wanted(options)} was found; --explain says where, and why`);
  }
  return fitting.length > 0 ? 0 : STATUS_FAILED;
}

function printTable(findings: readonly Finding[]): void {
  const rows = findings.map(({ name, verdict, description, capabilities }) => [
    verdict === "taken" ? "*" : "",
    name,
    description!.type,
    capabilities!.features?.join(",") || "-",
    description!.binary,
    description!.description,
  ]);
  const [titles, ...lines] = formatTable(COLUMNS, rows, terminalWidth());
  const painted = lines.map((line, at) => (findings[at]!.verdict === "taken" ? line : paint("dim", line)));
  printLines([paint("bold", titles!), ...painted]);
}

const COLOURS: Partial<Record<Verdict, Parameters<typeof paint>[0]>> = {
  taken: "green",
  fits: "green",
  broken: "red",
};

/** Words in the first column are at most this long, with a gap. */
const INDENT = 12;

function explain({ directories, findings }: Discovery, options: SearchOptions): void {
  const lines = ["Searched, from general to specific:"];
  for (const directory of directories) lines.push(`  ${printable(directory.path)}: ${contents(directory)}`);
  lines.push("", `Wanted: ${wanted(options)}. Files, in the order in which they are tried:`, "");
  for (const { path, verdict, reason, warnings } of findings) {
    lines.push(paint(COLOURS[verdict] ?? "dim", verdict.padEnd(INDENT)) + printable(path));
    for (const sentence of [reason, ...warnings]) {
      lines.push(...wrap(sentence, terminalWidth() - INDENT).map((line) => " ".repeat(INDENT) + line));
    }
  }
  printLines(lines);
}

function contents({ names, fault }: Directory): string {
  if (names === undefined) return fault ?? "no such directory";
  return names.length === 1 ? "1 file" : `${names.length} files`;
}
