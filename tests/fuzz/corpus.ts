// The seed corpus: one input a line, in base64, so that a change shows what came and what went.
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { SOURCES } from "./build.ts";

const PATH = join(SOURCES, "corpus.txt");

/** Adds the seeds to a directory that libFuzzer reads. */
export async function unpackCorpus(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  const lines = (await readFile(PATH, "utf8")).split("\n").filter((line) => line !== "");
  await Promise.all(
    lines.map((line, i) => writeFile(join(directory, `seed-${i}`), Buffer.from(line, "base64"))),
  );
}

/** Makes the inputs in a directory the seed corpus. */
export async function packCorpus(directory: string): Promise<number> {
  const names = await readdir(directory);
  const inputs = await Promise.all(names.map((name) => readFile(join(directory, name), "base64")));
  inputs.sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
  await writeFile(PATH, inputs.map((input) => `${input}\n`).join(""));
  return inputs.length;
}

export async function emptyDirectory(directory: string): Promise<string> {
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
  return directory;
}
