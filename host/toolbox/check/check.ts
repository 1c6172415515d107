// `vringd check`
import type { Validator } from "../../../build/schemas.js";
import { optionFor } from "../../command-line/option-name.ts";
import { STATUS_FAILED } from "../../command-line/program.ts";
import { allPrograms } from "../../devices/index.ts";
import { StartError } from "../../errors.ts";
import { checkJson } from "../../json/checked.ts";
import { heeded, readGiven } from "../../json/given.ts";
import { complain, paint, printable, printLines } from "../terminal.ts";

/** By the property that a file has at its top. */
type Checks = Readonly<Record<string, (path: string) => Promise<void>>>;

/** More than any program takes. */
const BYTES_MAX = 1 << 20;

const anything: Validator = () => true;

/** Resolves with the exit status. */
export async function check(paths: readonly string[]): Promise<number> {
  const programs = await allPrograms();
  const checks: Checks = Object.assign({}, ...programs.map(({ files }) => files));
  const faults = await Promise.all(paths.map((path) => faultOf(path, checks)));
  for (const [at, fault] of faults.entries()) {
    if (fault === undefined) printLines([`${printable(paths[at]!)}: ${paint("green", "ok")}`]);
    else complain(printable(fault));
  }
  return faults.every((fault) => fault === undefined) ? 0 : STATUS_FAILED;
}

/** A sentence. */
async function faultOf(path: string, checks: Checks): Promise<string | undefined> {
  try {
    const names = propertiesOf(path);
    const name = Object.keys(checks).find((each) => names.includes(each));
    if (name === undefined)
      throw new StartError(
        `${path}: it has none of the properties ${Object.keys(checks).join(", ")}; add one`,
      );
    await checks[name]!(path);
    return undefined;
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    return error.told(optionFor);
  }
}

/** Throws StartError. */
function propertiesOf(path: string): string[] {
  const value = heeded(checkJson<unknown>(readGiven(path, BYTES_MAX), anything), `${path}: `);
  return typeof value === "object" && value !== null ? Object.keys(value) : [];
}
