// Searching, with the options that its subcommands share.
import { resolve } from "node:path";
import { searchDirectories } from "../../discovery/directories.ts";
import { type Discovery, discover } from "../../discovery/discovery.ts";
import { complain } from "../terminal.ts";
import type { SearchOptions } from "./command.ts";

export function search(options: SearchOptions, name?: string): Promise<Discovery> {
  const { type, features, directory, timeout } = options;
  const paths = directory?.map((path) => resolve(path)) ?? searchDirectories();
  return discover(paths, { name, type, features }, timeout * 1000);
}

/** What was looked for, in words. */
export function wanted({ type, features = [] }: SearchOptions): string {
  const what = type === undefined ? "any type" : `type ${type}`;
  return features.length === 0 ? what : `${what} with ${features.join(" and ")}`;
}

/** What is broken is told whatever was asked for, and stops nothing. */
export function complainOfBroken({ directories, findings }: Discovery): void {
  for (const { path, fault } of directories) if (fault !== undefined) complain(`${path}: ${fault}`);
  for (const { path, verdict, reason } of findings) if (verdict === "broken") complain(`${path}: ${reason}`);
}
