// `vringd backends show`
import { STATUS_FAILED, UsageError } from "../../command-line/program.ts";
import type { Finding } from "../../discovery/discovery.ts";
import { formatRow } from "../rows.ts";
import { complain, printJson, printLines } from "../terminal.ts";
import type { SearchOptions } from "./command.ts";
import { complainOfBroken, search, wanted } from "./search.ts";

export async function show(name: string | undefined, options: SearchOptions): Promise<number> {
  if (name === undefined && options.type === undefined) throw new UsageError("a NAME or --type is missing");
  const discovery = await search(options, name);
  const finding = pick(discovery.findings, name);
  if (finding === undefined) {
    complainOfBroken(discovery);
    complain(
      `no ${name ?? `back-end of ${wanted(options)}`} was found; "list --explain" says where, and why`,
    );
    return STATUS_FAILED;
  }
  if (options.json) printJson(finding);
  else printFinding(finding);
  return isOfUse(finding) ? 0 : STATUS_FAILED;
}

/** Of files with one name, the most specific counts, be it of use or not. */
function pick(findings: readonly Finding[], name: string | undefined): Finding | undefined {
  return name === undefined ? findings.find(({ verdict }) => verdict === "taken") : findings.at(-1);
}

function isOfUse({ verdict }: Finding): boolean {
  return verdict === "taken" || verdict === "fits";
}

function printFinding(finding: Finding): void {
  const { path, description, capabilities, warnings } = finding;
  const rows: [label: string, text: string | undefined][] = [
    ["file", path],
    ["description", description?.description],
    ["type", description?.type],
    ["binary", description?.binary],
    ["tags", description?.tags?.join(", ")],
    ["features", capabilities && (capabilities.features?.join(", ") || "none")],
    [finding.verdict, isOfUse(finding) ? undefined : finding.reason],
    ...warnings.map((warning): [string, string] => ["warning", warning]),
  ];
  printLines(rows.flatMap(([label, text]) => (text === undefined ? [] : formatRow(label, text, INDENT))));
}

const INDENT = "description  ".length;
