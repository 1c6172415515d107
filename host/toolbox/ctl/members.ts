// `vringd ctl NAME disks`, `add` and `remove`: devices that come and go while their process runs.
import { resolve } from "node:path";
import { addOptions, valuesOf } from "../../command-line/from-options.ts";
import { newProgram } from "../../command-line/program.ts";
import { allPrograms } from "../../devices/index.ts";
import type { MemberStatus } from "../../observability/members.ts";
import type { ProcessStatus } from "../../observability/process.ts";
import { hyphenated, type OptionTable } from "../../options/option.ts";
import { askControl, ControlError, NotHereError, type Peer } from "../control-client.ts";
import { type Column, formatTable } from "../table.ts";
import { paint } from "../terminal.ts";

/** A disk may have to wait for its lock, and one that ends for its requests: that takes longer than any other answer. */
const TIMEOUT_MS = 90_000;
const CELL_LEAST = 8;

/** `many`: what they are called. */
export async function listMembers(peer: Peer, many: string): Promise<MemberStatus[]> {
  const answer = await askProcess<Record<string, MemberStatus[]>>(peer, "GET", `/v1/${many}`);
  return answer[many]!;
}

/** `args`: options of the program's, as its own command line has them. Throws UsageError. */
export async function addMember(peer: Peer, args: readonly string[]): Promise<MemberStatus> {
  const { program, members } = await askProcess<ProcessStatus>(peer, "GET", "/v1/process");
  const table = (await allPrograms()).find(({ name }) => name === program)?.memberOptions;
  if (table === undefined) throw new ControlError(`${peer.socketPath}: ${program} takes nothing more`);
  const asked = readMember(table, args);
  return askControl<MemberStatus>({ ...peer, timeoutMs: TIMEOUT_MS }, "POST", `/v1/${members}`, asked);
}

export async function removeMember(
  peer: Peer,
  name: string,
  isForced: boolean,
): Promise<{ removed: string }> {
  const { members } = await askProcess<ProcessStatus>(peer, "GET", "/v1/process");
  const path = `/v1/${members}/${encodeURIComponent(name)}${isForced ? "?force=true" : ""}`;
  return askControl({ ...peer, timeoutMs: TIMEOUT_MS }, "DELETE", path);
}

export function memberLines(members: readonly MemberStatus[], many: string, width: number): string[] {
  if (members.length === 0) return [`There are no ${many}.`];
  const names = [...new Set(members.flatMap((member) => Object.keys(member)))];
  const columns = names.map(
    (name): Column => ({ title: name.toUpperCase(), least: CELL_LEAST, cut: "start" }),
  );
  const rows = members.map((member) => names.map((name) => member[name] ?? ""));
  const [head, ...lines] = formatTable(columns, rows, width);
  return [paint("bold", head!), ...lines];
}

/** As the control socket takes it. */
function readMember(table: OptionTable, args: readonly string[]): Record<string, unknown> {
  const command = newProgram("add");
  addOptions(command, table);
  const given = command.parse(args, { from: "user" }).opts();
  // What is missing is told here.
  valuesOf(table, given);
  const names = Object.keys(table).filter((name) => command.getOptionValueSource(name) === "cli");
  return Object.fromEntries(
    names.map((name) => [hyphenated(name), table[name]!.type?.isPath ? fromHere(given[name]) : given[name]]),
  );
}

/** The daemon may be in another directory. What has a scheme is no path, nor is an abstract name. */
function fromHere(path: string): string {
  return /^(@|[a-z+]+:)/.test(path) ? path : resolve(path);
}

async function askProcess<T>(peer: Peer, method: string, path: string): Promise<T> {
  try {
    return await askControl<T>(peer, method, path);
  } catch (error) {
    if (!(error instanceof NotHereError)) throw error;
    throw new ControlError(
      `${peer.socketPath} is the socket of one device: ask that of a process whose devices come and go`,
    );
  }
}
