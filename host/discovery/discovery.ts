// Finds back-ends as management software does, and knows of each file why it was taken or not.
import type { BackendCapabilities, BackendDescription, BackendType } from "../../build/schemas.js";
import { askCapabilities } from "./capabilities-query.ts";
import { readDescription } from "./description.ts";
import {
  type DescriptionFile,
  type Directory,
  listDescriptionFiles,
  readDirectory,
  type Standing,
} from "./description-files.ts";

export interface Query {
  /** Of a file, with or without ".json". */
  name?: string | undefined;
  type?: BackendType | undefined;
  /** All of them. */
  features?: readonly string[] | undefined;
}

/**
 * "taken" is the first of its type that fits, "fits" a later one, "unfit" one that was not asked for, and
 * "broken" one that is of no use to anybody. The others take no effect.
 */
export type Verdict = "taken" | "fits" | "unfit" | "broken" | Exclude<Standing, "effective">;

export interface Finding {
  name: string;
  path: string;
  verdict: Verdict;
  /** Why; one sentence or more. */
  reason: string;
  description?: BackendDescription;
  capabilities?: BackendCapabilities;
  warnings: string[];
}

export interface Discovery {
  directories: Directory[];
  /** In the order in which files are tried. */
  findings: Finding[];
}

export async function discover(
  paths: readonly string[],
  query: Query,
  timeoutMs: number,
): Promise<Discovery> {
  // XDG_CONFIG_HOME may be /etc.
  const directories = [...new Set(paths)].map(readDirectory);
  const files = listDescriptionFiles(directories).filter(({ name }) => isNamed(name, query.name));
  const findings = await Promise.all(files.map((file) => examine(file, query, timeoutMs)));
  markTaken(findings);
  return { directories, findings };
}

function isNamed(name: string, wanted: string | undefined): boolean {
  return wanted === undefined || name === wanted || name === `${wanted}.json`;
}

/** All about one file but what earlier ones mean for it. */
async function examine(file: DescriptionFile, query: Query, timeoutMs: number): Promise<Finding> {
  const { name, path, standing, reason } = file;
  if (standing !== "effective") return { name, path, verdict: standing, reason, warnings: [] };
  const read = readDescription(path);
  const { value: description, warnings } = read;
  if (description === undefined) {
    return { name, path, verdict: "broken", reason: read.faults.join("; "), warnings };
  }
  const known = { name, path, description, warnings };
  const { type } = description;
  if (query.type !== undefined && type !== query.type) {
    return { ...known, verdict: "unfit", reason: `its type is ${type}, not ${query.type}` };
  }
  const answer = await askCapabilities(description, timeoutMs);
  warnings.push(...answer.warnings);
  if (answer.value === undefined) return { ...known, verdict: "broken", reason: answer.faults.join("; ") };
  return { ...known, capabilities: answer.value, ...fitness(answer.value, query) };
}

function fitness({ features = [] }: BackendCapabilities, query: Query): Pick<Finding, "verdict" | "reason"> {
  const lacking = (query.features ?? []).filter((feature) => !features.includes(feature));
  if (lacking.length === 0) return { verdict: "fits", reason: "it fits" };
  return { verdict: "unfit", reason: `it lacks ${lacking.join(" and ")}` };
}

/** "Management software should choose the first JSON file on the sorted list that matches". */
function markTaken(findings: readonly Finding[]): void {
  const first = new Map<BackendType, Finding>();
  for (const finding of findings) {
    if (finding.verdict !== "fits") continue;
    const { type } = finding.description!;
    const earlier = first.get(type);
    if (earlier !== undefined) {
      finding.reason = `it fits, but ${earlier.name} comes before it`;
      continue;
    }
    first.set(type, finding);
    finding.verdict = "taken";
    finding.reason = `it is the first ${type} back-end that fits`;
  }
}
