// What a test needs of the machine. Where that is missing a user's run skips the test, with the reason; in CI it is a failure.
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/** Why something can't be used here; false or undefined where it can. */
export type Lack = string | false | undefined;

/**
 * For the `skip` option of a test: false, or the reason. .ci/run installs or sets up all that tests ask for, and sets
 * VRINGD_TEST_SKIPS=forbidden: then a lack is an error.
 */
export function skipWithout(...lacks: readonly Lack[]): string | false {
  const reasons = new Set(lacks.filter((lack) => typeof lack === "string"));
  if (reasons.size === 0) return false;
  const reason = [...reasons].join(", ");
  if (areSkipsForbidden()) throw new Error(`a test would be skipped, which is forbidden here: ${reason}`);
  return reason;
}

export function areSkipsForbidden(): boolean {
  const { VRINGD_TEST_SKIPS: wish = "" } = process.env;
  if (wish === "") return false;
  if (wish === "forbidden") return true;
  throw new Error(`VRINGD_TEST_SKIPS is "forbidden" or unset, not "${wish}"`);
}

/** The reason why these can't be started, unless all are there. */
export function whyNoProgram(...names: readonly string[]): string | undefined {
  const missing = names.filter((name) => findProgram(name) === undefined);
  if (missing.length === 0) return undefined;
  return `${missing.join(" and ")} ${missing.length === 1 ? "is" : "are"} not installed`;
}

export function findProgram(name: string): string | undefined {
  // An ordinary user's PATH lacks the directories that mkfs.ext4 and blkdiscard are in.
  const directories = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return directories.map((directory) => join(directory, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
