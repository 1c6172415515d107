// The files of all directories, in the order in which management software tries them, and which of a name takes effect.
import { readdirSync, type Stats, statSync } from "node:fs";
import { join } from "node:path";
import { reasonOf } from "../errors.ts";
import { filePath } from "../process/paths.ts";

export interface DescriptionFile {
  name: string;
  path: string;
  standing: Standing;
  /** Why it takes no effect, if it doesn't. */
  reason: string;
}

export type Standing = "effective" | "overridden" | "hidden" | "hides" | "ignored";

export interface Directory {
  path: string;
  /** Names of what lies there; undefined if there is no such directory. */
  names?: string[];
  fault?: string;
}

interface Candidate {
  name: string;
  path: string;
  isEmpty: boolean;
}

/** Sorted by file name, and of one name from general to specific. */
export function listDescriptionFiles(directories: readonly Directory[]): DescriptionFile[] {
  const files: DescriptionFile[] = [];
  const candidates = new Map<string, Candidate[]>();
  for (const { path: directory, names = [] } of directories) {
    for (const name of names) {
      const path = join(directory, name);
      const stat = statOf(path);
      const reason = reasonToIgnore(name, stat);
      if (reason !== undefined) files.push({ name, path, standing: "ignored", reason });
      else candidates.set(name, [...(candidates.get(name) ?? []), { name, path, isEmpty: stat?.size === 0 }]);
    }
  }
  for (const sameName of candidates.values()) files.push(...standings(sameName));
  return files.sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
}

export function readDirectory(path: string): Directory {
  try {
    return { path, names: readdirSync(path) };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === "ENOENT" ? { path } : { path, fault: `it can't be read: ${reasonOf(error)}` };
  }
}

/** Undefined for what can't be looked at. In a search it takes effect: to be reported, not to be passed over. */
export function statOf(path: string): Stats | undefined {
  try {
    return statSync(filePath(path));
  } catch {
    return undefined;
  }
}

function reasonToIgnore(name: string, stat: Stats | undefined): string | undefined {
  // As libvirt does: editors and package managers leave such behind.
  if (name.startsWith(".")) return "its name begins with a dot";
  return stat === undefined || stat.isFile() ? undefined : "it is not a regular file";
}

/** Of files with one name, given from general to specific. */
function standings(sameName: readonly Candidate[]): DescriptionFile[] {
  const specific = sameName.at(-1)!;
  return sameName.map(({ name, path, isEmpty }) => {
    if (path !== specific.path) {
      return specific.isEmpty
        ? { name, path, standing: "hidden", reason: `${specific.path} has no content and hides it` }
        : { name, path, standing: "overridden", reason: `${specific.path} takes its place` };
    }
    if (!isEmpty) return { name, path, standing: "effective", reason: "" };
    const others = sameName.slice(0, -1).map((other) => other.path);
    const reason = `it has no content, and so hides ${others.join(" and ") || "nothing"}`;
    return { name, path, standing: "hides", reason };
  });
}
