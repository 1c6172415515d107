// `vringd ctl NAME backup FILE`: begins a backup, shows how far it is, and has it cancelled at a signal.
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { STATUS_FAILED } from "../../command-line/program.ts";
import type { BackupStatus } from "../../storage/backup/status.ts";
import { askControl, type Peer } from "../control-client.ts";
import { Interruption } from "../interruption.ts";
import { Progress } from "../progress.ts";
import { complain, printJson, printLines } from "../terminal.ts";
import { formatBytes } from "../units.ts";

/** What the guest has written last must be stable before its rings stop for the moment of the copy. */
const START_TIMEOUT_MS = 90_000;
const POLL_MS = 200;

/** `file`: a path from here. Resolves with the exit status. Throws ControlError. */
export async function backup(peer: Peer, file: string, isJson: boolean): Promise<number> {
  using interruption = new Interruption();
  const progress = new Progress("copying");
  let status = await tell({ ...peer, timeoutMs: START_TIMEOUT_MS }, resolve(file));
  while (status.state === "running" && !interruption.signal.aborted) {
    progress.update(status.copiedBytes, status.totalBytes);
    await sleep(POLL_MS, undefined, { signal: interruption.signal }).catch(() => {});
    status = await tell(peer, "--status");
  }
  if (status.state === "running") status = await tell({ ...peer, timeoutMs: START_TIMEOUT_MS }, "--cancel");
  progress.clear();
  if (isJson) printJson(status);
  return tellEnd(status, isJson) ?? interruption.status ?? STATUS_FAILED;
}

/** Undefined: it has not come to its end. */
function tellEnd(
  { state, file, totalBytes, pauseMs, reason }: BackupStatus,
  isJson: boolean,
): number | undefined {
  if (state === "done") {
    const sentence = `${file} has the ${formatBytes(totalBytes)} of the disk as they were; the guest waited ${pauseMs} ms.`;
    if (!isJson) printLines([sentence]);
    return 0;
  }
  if (state === "failed") complain(`${file} was not made: ${reason}`);
  else complain(`the backup was cancelled: ${file} was not made`);
  return state === "failed" ? STATUS_FAILED : undefined;
}

function tell(peer: Peer, word: string): Promise<BackupStatus> {
  return askControl<BackupStatus>(peer, "POST", "/v1/commands", { command: "backup", arguments: [word] });
}
