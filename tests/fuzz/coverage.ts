// Which branches of the core the corpus reaches, by function of its source.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { BUILD, buildFuzzer, runTool, type Variant } from "./build.ts";

/** Without optimisation, so that the functions of the source are those of the binary. */
const VARIANT: Variant = {
  directory: join(BUILD, "coverage"),
  target: "plain",
  optimize: false,
  coreFlags: ["-fprofile-instr-generate", "-fcoverage-mapping"],
  harnessFlags: [],
  linkFlags: ["-fprofile-instr-generate", "-fsanitize=fuzzer"],
};

/** Of the core's source, longer names first: one may begin as another does. */
const FILES = readdirSync("assembly", { recursive: true, encoding: "utf8" })
  .flatMap((name) => (name.endsWith(".ts") ? [name.slice(0, -3)] : []))
  .sort((a, b) => b.length - a.length);

export interface FunctionCoverage {
  /** file/function */
  name: string;
  branches: number;
  reached: number;
}

type Branch = [line: number, column: number, endLine: number, endColumn: number, yes: number, no: number];

interface Export {
  data: { functions: { name: string; count: number; branches: Branch[] }[] }[];
}

export async function measureCoverage(corpus: string): Promise<FunctionCoverage[]> {
  const fuzzer = await buildFuzzer(VARIANT);
  const { directory } = VARIANT;
  spawnSync(fuzzer, ["-runs=0", corpus], {
    env: { ...process.env, LLVM_PROFILE_FILE: join(directory, "raw.profile") },
    stdio: "ignore",
  });
  runTool(directory, "llvm-profdata-14", ["merge", "raw.profile", "-o", "profile"]);
  const text = runTool(directory, "llvm-cov-14", ["export", "fuzzer", "-instr-profile=profile"]);
  const { functions } = (JSON.parse(text) as Export).data[0]!;
  return functions.flatMap(({ name, count, branches }) => {
    const source = sourceName(name);
    return source === undefined ? [] : [{ name: source, ...countBranches(count, branches) }];
  });
}

/** A function without branches counts as one, reached when it is called. */
function countBranches(count: number, branches: Branch[]): { branches: number; reached: number } {
  if (branches.length === 0) return { branches: 1, reached: count > 0 ? 1 : 0 };
  const sides = branches.flatMap(([, , , , yes, no]) => [yes, no]);
  return { branches: sides.length, reached: sides.filter((taken) => taken > 0).length };
}

/** wasm2c writes an underscore for all that C can't spell. Undefined: not of the core's source. */
function sourceName(name: string): string | undefined {
  const spelt = /w2c_assembly_(.*)/.exec(name)?.[1];
  const file = FILES.find((candidate) => spelt?.startsWith(`${candidate.replace(/\W/g, "_")}_`));
  return file === undefined ? undefined : `${file}/${spelt!.slice(file.length + 1)}`;
}

export function tellCoverage(functions: readonly FunctionCoverage[]): string {
  const files = new Map<string, FunctionCoverage>();
  for (const { name, branches, reached } of functions) {
    const file = name.slice(0, name.lastIndexOf("/"));
    const sum = files.get(file) ?? { name: file, branches: 0, reached: 0 };
    files.set(file, { name: file, branches: sum.branches + branches, reached: sum.reached + reached });
  }
  const sorted = [...files.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  const partly = functions.filter(({ branches, reached }) => reached < branches);
  const all = sorted.reduce((sum, file) => [sum[0]! + file.reached, sum[1]! + file.branches], [0, 0]);
  return [
    ...sorted.map(tell),
    "Not reached in full:",
    ...partly.map(tell),
    `${all[0]} of ${all[1]} branches of the core reached (${((100 * all[0]!) / all[1]!).toFixed(1)} %)`,
  ].join("\n");
}

function tell({ name, branches, reached }: FunctionCoverage): string {
  return `  ${`${reached} of ${branches}`.padStart(12)}  ${name}`;
}
