// `vringd backends check`
import { basename, resolve } from "node:path";
import { STATUS_FAILED } from "../../command-line/program.ts";
import { askCapabilities } from "../../discovery/capabilities-query.ts";
import { readDescription } from "../../discovery/description.ts";
import { listDescriptionFiles, readDirectory, statOf } from "../../discovery/description-files.ts";
import { searchDirectories } from "../../discovery/directories.ts";
import { complain, paint, printable, printJson, printLines } from "../terminal.ts";

interface CheckOptions {
  binary?: true;
  timeout: number;
  json?: true;
}

interface Report {
  path: string;
  /** For these, management software can't use it. */
  errors: string[];
  /** It is used as it is, but might not be what was meant. */
  warnings: string[];
}

export async function check(paths: readonly string[], options: CheckOptions): Promise<number> {
  const files = paths.length > 0 ? paths.flatMap(filesAt) : searchDirectories().flatMap(filesIn);
  const reports = await Promise.all(files.map((path) => checkFile(path, options)));
  if (options.json) printJson(reports);
  else printReports(reports);
  return reports.length > 0 && reports.every(({ errors }) => errors.length === 0) ? 0 : STATUS_FAILED;
}

function filesAt(path: string): string[] {
  return statOf(path)?.isDirectory() ? filesIn(resolve(path)) : [resolve(path)];
}

function filesIn(path: string): string[] {
  const directory = readDirectory(path);
  // Reading it as a file will tell why.
  if (directory.fault !== undefined) return [path];
  const files = listDescriptionFiles([directory]).filter(({ standing }) => standing !== "ignored");
  return files.map((file) => file.path);
}

async function checkFile(path: string, { binary, timeout }: CheckOptions): Promise<Report> {
  // One that hides others.
  if (statOf(path)?.size === 0) return { path, errors: [], warnings: [] };
  const { value, faults, warnings } = readDescription(path);
  const report = { path, errors: faults, warnings: [...nameWarnings(path), ...warnings] };
  if (value === undefined || !binary) return report;
  const answer = await askCapabilities(value, timeout * 1000);
  return { path, errors: answer.faults, warnings: [...report.warnings, ...answer.warnings] };
}

/** The name decides the order. "It is recommended to create [...] files [...] with a double-digit prefix". */
function nameWarnings(path: string): string[] {
  if (/^\d\d-.*\.json$/.test(basename(path))) return [];
  return ["its name should be like 50-name.json, since files are tried in the order of their names"];
}

function printReports(reports: readonly Report[]): void {
  if (reports.length === 0) complain("there is no description file to check");
  for (const { path, errors, warnings } of reports) {
    const place = printable(path);
    for (const error of errors) printLines([`${place}: ${paint("red", "error")}: ${printable(error)}`]);
    for (const warning of warnings)
      printLines([`${place}: ${paint("yellow", "warning")}: ${printable(warning)}`]);
    if (errors.length === 0 && warnings.length === 0) printLines([`${place}: ${paint("green", "ok")}`]);
  }
}
