// `vringd ctl`
import { STATUS_FAILED } from "../../command-line/program.ts";
import type { Stats } from "../../observability/stats.ts";
import type { Status } from "../../observability/status.ts";
import { askControl, ControlError, type Peer } from "../control-client.ts";
import { resolveControlSocket } from "../control-sockets.ts";
import type { CtlOptions } from "../observe.ts";
import { complain, printJson, printLines, terminalWidth } from "../terminal.ts";
import { printEvents } from "./events.ts";
import { statsLines } from "./stats.ts";
import { statusLines } from "./status.ts";

type Answered = { value: unknown; lines: string[] };

export async function ctl(
  pathOrName: string,
  command: string,
  level: string | undefined,
  { timeout, json }: CtlOptions,
): Promise<number> {
  const peer = { socketPath: resolveControlSocket(pathOrName), timeoutMs: timeout * 1000 };
  try {
    if (command === "events") await printEvents(peer, json ?? false);
    else {
      const { value, lines } = await perform(peer, command, level);
      if (json) printJson(value);
      else printLines(lines);
    }
    return 0;
  } catch (error) {
    if (!(error instanceof ControlError)) throw error;
    complain(error.message);
    return STATUS_FAILED;
  }
}

async function perform(peer: Peer, command: string, level: string | undefined): Promise<Answered> {
  switch (command) {
    case "status": {
      const value = await askControl<Status>(peer, "GET", "/v1/status");
      return { value, lines: statusLines(value, terminalWidth()) };
    }
    case "stats": {
      const value = await askControl<Stats>(peer, "GET", "/v1/stats");
      return { value, lines: statsLines(value, terminalWidth()) };
    }
    case "log-level": {
      const value = await askControl<{ level: string }>(peer, "PUT", "/v1/log-level", { level });
      return { value, lines: [`It logs ${value.level} and what is worse from now on.`] };
    }
    default: {
      const value = await askControl(peer, "POST", "/v1/quit");
      return { value, lines: ["It is stopping."] };
    }
  }
}
