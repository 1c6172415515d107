// The notices of what was bundled: its licences ask that copies carry them.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const LICENCE_FILE = /^(licen[cs]e|notice|copying)(\.(md|txt|markdown))?$/i;

const RULE = "-".repeat(80);

/** Writes the notices of all packages that have a part in these outputs, as esbuild's metafile tells. */
export function writeNotices(path, metafile, ...further) {
  const folders = [...new Set([...foldersOf(metafile), ...further])].sort();
  const head = "vringd contains code of these packages, under the licences that follow.\n";
  writeFileSync(path, [head, ...folders.map(noticeOf)].join(`\n${RULE}\n\n`));
}

function foldersOf({ outputs }) {
  const inputs = Object.values(outputs).flatMap((output) => Object.entries(output.inputs));
  const paths = inputs.filter(([, { bytesInOutput }]) => bytesInOutput > 0).map(([path]) => path);
  return paths.flatMap((path) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? []);
}

function noticeOf(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const files = readdirSync(folder).filter((file) => LICENCE_FILE.test(file));
  if (files.length === 0)
    throw new Error(`${folder} has no licence file: see what it asks for, and add it here`);
  const texts = files.map((file) => readFileSync(join(folder, file), "utf8").trim());
  return [`${name} ${version} (${license})`, ...texts, ""].join("\n\n");
}
