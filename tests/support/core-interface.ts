// What a build of the core imports and exports, with types, a line each.
import { execFileSync } from "node:child_process";
import { resolve } from "node:path";

/** An export as "name(i32, i32) -> i32". */
export interface CoreInterface {
  imports: string[];
  exports: string[];
}

const known = new Map<string, CoreInterface>();

export function interfaceOf(path: string): CoreInterface {
  const found = known.get(path) ?? readInterface(path);
  known.set(path, found);
  return found;
}

function readInterface(path: string): CoreInterface {
  const wasmDis = resolve("node_modules/.bin/wasm-dis");
  const text = execFileSync(wasmDis, [path], { encoding: "utf8", maxBuffer: 64 << 20 });
  const imports = text.matchAll(/^ \(import "(\w+)" "(\w+)" \((\w+) \S+ ?([^)]*)\)/gm);
  const exports = text.matchAll(/^ \(export "(\w+)" \((\w+) (\S+)\)\)/gm);
  return {
    imports: [...imports].map(([, module, name, kind, type]) => `${module}.${name}: ${kind} ${type}`).sort(),
    exports: [...exports].map(([, name, kind, id]) => `${name}${typeOf(text, kind!, id!)}`).sort(),
  };
}

function typeOf(text: string, kind: string, id: string): string {
  if (kind !== "func") return `: ${kind}`;
  const start = text.indexOf(`(func ${id} `);
  const line = start < 0 ? "" : text.slice(start, text.indexOf("\n", start));
  const parameters = [...line.matchAll(/\(param \S+ (\w+)\)/g)].map(([, type]) => type);
  const result = /\(result (\w+)\)/.exec(line)?.[1];
  return `(${parameters.join(", ")})${result === undefined ? "" : ` -> ${result}`}`;
}
