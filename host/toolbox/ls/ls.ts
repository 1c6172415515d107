// `vringd ls`: which daemons of ours run here, one line each.
import { STATUS_FAILED } from "../../command-line/program.ts";
import type { Status } from "../../observability/status.ts";
import { askControl, ControlError, NotHereError } from "../control-client.ts";
import { deviceName, findControlSockets, nothingFound, resolveControlSocket } from "../control-sockets.ts";
import type { LsOptions } from "../observe.ts";
import { type Column, formatTable } from "../table.ts";
import { complain, printJson, printLines, terminalWidth } from "../terminal.ts";
import { formatBytes, formatSpan } from "../units.ts";

/** One daemon's device. */
export interface Listed {
  /** As its control socket is called. */
  device: string;
  socket: string;
  status?: Status;
  /** Why there is no status. */
  problem?: string;
}

const COLUMNS: Column[] = [
  { title: "DEVICE", least: 12 },
  { title: "TYPE", least: 5 },
  { title: "PROCESS", least: 7, align: "right" },
  { title: "UP", least: 4, align: "right" },
  { title: "FRONT-END", least: 9 },
  { title: "RINGS", least: 5, align: "right" },
  { title: "SIZE", least: 7, align: "right", canGo: true },
  { title: "WHAT", least: 8, cut: "start", canGo: true },
];

/** Resolves with the exit status. */
export async function ls(named: readonly string[], { timeout, json }: LsOptions): Promise<number> {
  const sockets = named.length > 0 ? named.map((each) => resolveControlSocket(each)) : findControlSockets();
  const asked = await Promise.all(sockets.map((socket) => ask(socket, timeout * 1000, named.length > 0)));
  const all = asked.filter((each) => each !== undefined);
  const answered = all.filter(({ status }) => status !== undefined);
  if (json) printJson(all);
  else {
    if (answered.length > 0) printLines(formatTable(COLUMNS, answered.map(rowOf), terminalWidth()));
    for (const { problem } of all) if (problem !== undefined) complain(problem);
    if (all.length === 0) complain(nothingFound());
  }
  return answered.length > 0 ? 0 : STATUS_FAILED;
}

/** Undefined: nobody has named it, and it is that of a process whose devices are found, too. */
async function ask(socket: string, timeoutMs: number, isNamed: boolean): Promise<Listed | undefined> {
  const device = deviceName(socket);
  try {
    const status = await askControl<Status>({ socketPath: socket, timeoutMs }, "GET", "/v1/status");
    return { device, socket, status };
  } catch (error) {
    if (!(error instanceof ControlError)) throw error;
    if (error instanceof NotHereError && !isNamed) return undefined;
    return { device, socket, problem: error.message };
  }
}

function rowOf({ device, status }: Listed): string[] {
  const { device: type, pid, uptimeSeconds, frontEnd, frontEnds, rings, disk } = status!;
  const running = rings.filter(({ state }) => state === "running").length;
  const broken = rings.filter(({ state }) => state === "broken").length;
  const connected = frontEnds.length > 1 ? `${frontEnds.length} connected` : "connected";
  return [
    device,
    type,
    String(pid),
    formatSpan(uptimeSeconds),
    frontEnd === null ? "none" : connected,
    broken > 0 ? `${running}, ${broken} broken` : String(running),
    disk === undefined ? "" : formatBytes(disk.sizeBytes),
    disk?.path ?? "",
  ];
}
