// The numbers of the specifications and of the core's layout, as the C++ of the harness reads them.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

const CONSTANT = /^export const (\w+) = (-?\w+);/gm;

export async function numbersHeader(directories: readonly string[]): Promise<string> {
  const paths = (await Promise.all(directories.map(sourcesIn))).flat();
  const texts = await Promise.all(paths.map((path) => readFile(path, "utf8")));
  const lines = [...texts.join("").matchAll(CONSTANT)].map(([, name, value]) => {
    const type = Number(value) > 0x7fffffff ? "uint32_t" : "int32_t";
    return `constexpr ${type} ${name} = ${value};`;
  });
  return `#pragma once\n#include <cstdint>\n${lines.join("\n")}\n`;
}

async function sourcesIn(directory: string): Promise<string[]> {
  const names = (await readdir(directory)).filter((name) => name.endsWith(".ts")).sort();
  return names.map((name) => join(directory, name));
}
