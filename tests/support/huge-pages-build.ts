// A copy of the program that takes every memory file for one of huge pages, whether the machine has such pages or not.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

/** What is changed, once in all of the build. */
const GRANULARITY = "return magic === HUGETLBFS_MAGIC ? blockSize : PAGE_SIZE;";
const MAP_AT = "function mapSharedAt(address, fd, offset, byteLength) {";

export interface HugePagesBuild {
  program: string[];
  remove(): void;
}

/** `pageSize`: of each memory file. The copy refuses mappings that a kernel with such pages would refuse. */
export function buildWithHugePages(pageSize: number): HugePagesBuild {
  const build = resolve("build");
  const copy = mkdtempSync(join(build, "tests", "huge-pages-"));
  for (const name of readdirSync(build).filter((name) => /\.(mjs|wasm)$/.test(name))) {
    cpSync(join(build, name), join(copy, name));
  }
  const check =
    `if (address % ${pageSize} !== 0 || byteLength % ${pageSize} !== 0 || offset % ${pageSize}n !== 0n) ` +
    `throw new Error("a mapping that huge pages don't allow");`;
  replaceOnce(copy, GRANULARITY, `return ${pageSize};`);
  replaceOnce(copy, MAP_AT, `${MAP_AT}\n  ${check}`);
  return {
    program: [process.execPath, join(copy, "vringd-blk.mjs")],
    remove: () => rmSync(copy, { recursive: true }),
  };
}

function replaceOnce(directory: string, from: string, to: string): void {
  const files = readdirSync(directory).filter((name) => name.endsWith(".mjs"));
  const holders = files.filter((name) => readFileSync(join(directory, name), "utf8").includes(from));
  if (holders.length !== 1) throw new Error(`${holders.length} files of the build hold "${from}"`);
  const path = join(directory, holders[0]!);
  writeFileSync(
    path,
    readFileSync(path, "utf8").replace(from, () => to),
  );
}
