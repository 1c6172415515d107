// `vringd overlay info`
import { STATUS_FAILED } from "../../command-line/program.ts";
import { type Inspected, type InspectedBase, inspect } from "../../storage/overlay/inspect.ts";
import { formatRow } from "../rows.ts";
import { printJson, printLines } from "../terminal.ts";
import { formatBytes } from "../units.ts";
import type { InfoOptions } from "./command.ts";

/** Resolves with the exit status. Throws StartError for what is no overlay. */
export async function info(path: string, { base, json }: InfoOptions): Promise<number> {
  const found = await inspect(path, base);
  if (json) printJson(asJson(path, found));
  else printLines(rowsOf(path, found).flatMap(([label, text]) => formatRow(label, text, INDENT)));
  return isUsable(found.base) ? 0 : STATUS_FAILED;
}

const INDENT = "allocated  ".length;

function isUsable({ standing }: InspectedBase): boolean {
  return standing === "as-it-was" || standing === "half-committed";
}

function rowsOf(path: string, found: Inspected): [label: string, text: string][] {
  const { sizeBytes, blockBytes, blocks, unflushedBlocks, allocatedBytes, base, isCommitting, user } = found;
  const all = Math.ceil(sizeBytes / blockBytes);
  return [
    ["overlay", path],
    ["base", base.path ?? "not known; name it with --base"],
    ...(base.path === undefined ? [] : ([["", standingText(path, base)]] as [string, string][])),
    ["size", formatBytes(sizeBytes)],
    [
      "blocks",
      `${blocks} of ${all}, of ${formatBytes(blockBytes)} each: ${formatBytes(blocks * blockBytes)}`,
    ],
    ["allocated", formatBytes(allocatedBytes)],
    ["state", unflushedBlocks === 0 ? "clean" : `dirty: ${unflushedBlocks} blocks are not flushed`],
    ...(isCommitting ? ([["commit", commitText(path)]] as [string, string][]) : []),
    ["in use", userText(user)],
  ];
}

function standingText(path: string, { path: base, standing, changedMs, reason }: InspectedBase): string {
  switch (standing) {
    case "as-it-was":
      return "is what it was";
    case "half-committed":
      return "half of the commit is in it; this overlay hides that";
    case "of-another-size":
      return "has another size than it had";
    case "anothers-commit":
      return "another overlay is half committed into it";
    case "changed": {
      const when = changedMs === undefined ? "" : `, on ${new Date(changedMs).toISOString()}`;
      const advice = `if it holds what it held: vringd overlay rebase --unsafe ${path} ${base}`;
      return `has changed${when}; ${advice}`;
    }
    default:
      return reason!;
  }
}

function commitText(path: string): string {
  return `has begun and not ended; vringd overlay commit ${path} ends it`;
}

function userText(user: Inspected["user"]): string {
  if (user === undefined) return "no";
  return user === "unknown"
    ? "by a process that can't be seen from here"
    : `by ${user.name} (process ${user.pid})`;
}

function asJson(path: string, { base, user, ...found }: Inspected): object {
  const inUseBy = user === undefined ? null : user;
  const { path: basePath = null, standing = "unusable", ...why } = base;
  return { overlay: path, base: { path: basePath, standing, ...why }, ...found, inUseBy };
}
