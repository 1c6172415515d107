// assembly/ABI.md as data: the numbers in its tables, and the exports.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";

const text = readFileSync(resolve("assembly/ABI.md"), "utf8");

/** A row's name and value: | `NAME` | 0x10 | */
export function abiNumbers(): [name: string, value: number][] {
  const rows = text.matchAll(/^\| `([A-Z][A-Z0-9_]*)` \| (-?\w+) \|/gm);
  return [...rows].map(([, name, value]) => [name!, Number(value)]);
}

/** A row's export, in the words of core-interface.ts: | `name` | one, two: i32 | i32 | */
export function abiExports(): string[] {
  const section = /^## Exports$([\s\S]*?)^## /m.exec(text)?.[1] ?? "";
  const rows = section.matchAll(/^\| `(\w+)` \| ([\w,:; ]*?) ?\| (i32|i64)? ?\|/gm);
  return [...rows].map(([, name, parameters = "", result = ""]) => {
    const types = parameters === "" ? [] : parameters.split(";").flatMap(typesOf);
    return `${name}(${types.join(", ")})${result && ` -> ${result}`}`;
  });
}

/** Names that have their type in common: "descGpa, deviceGpa: i64". */
function typesOf(parameters: string): string[] {
  const [names = "", type = ""] = parameters.split(":");
  return names.split(",").map(() => type.trim());
}

/** The numbers as C has them. */
export function abiHeader(): string {
  return ["#pragma once", ...abiNumbers().map(([name, value]) => `#define ${name} ${value}`), ""].join("\n");
}
