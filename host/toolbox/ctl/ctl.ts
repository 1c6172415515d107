// `vringd ctl`
import { STATUS_FAILED } from "../../command-line.ts";
import type { Stats } from "../../observability/stats.ts";
import type { Status } from "../../observability/status.ts";
import { askControl, ControlError } from "../control-client.ts";
import { resolveControlSocket } from "../control-sockets.ts";
import { complain, printJson, printLines, terminalWidth } from "../terminal.ts";
import { statsLines } from "./stats.ts";
import { statusLines } from "./status.ts";

type Answered = { value: unknown; lines: string[] };

export async function ctl(
  pathOrName: string,
  command: string,
  level: string | undefined,
  { json }: { json?: true },
): Promise<number> {
  try {
    const { value, lines } = await perform(resolveControlSocket(pathOrName), command, level);
    if (json) printJson(value);
    else printLines(lines);
    return 0;
  } catch (error) {
    if (!(error instanceof ControlError)) throw error;
    complain(error.message);
    return STATUS_FAILED;
  }
}

async function perform(socket: string, command: string, level: string | undefined): Promise<Answered> {
  switch (command) {
    case "status": {
      const value = await askControl<Status>(socket, "GET", "/v1/status");
      return { value, lines: statusLines(value, terminalWidth()) };
    }
    case "stats": {
      const value = await askControl<Stats>(socket, "GET", "/v1/stats");
      return { value, lines: statsLines(value, terminalWidth()) };
    }
    case "log-level": {
      const value = await askControl<{ level: string }>(socket, "PUT", "/v1/log-level", { level });
      return { value, lines: [`It logs ${value.level} and what is worse from now on.`] };
    }
    default: {
      const value = await askControl(socket, "POST", "/v1/quit");
      return { value, lines: ["It is stopping."] };
    }
  }
}
