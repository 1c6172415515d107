// `vringd ctl`
import { STATUS_FAILED } from "../../command-line/program.ts";
import type { Stats } from "../../observability/stats.ts";
import type { Status } from "../../observability/status.ts";
import { askControl, ControlError, type Peer } from "../control-client.ts";
import { resolveControlSocket } from "../control-sockets.ts";
import type { CtlOptions } from "../observe.ts";
import { complain, printJson, printLines, terminalWidth } from "../terminal.ts";
import { answerLines, askCommands, commandLines, tellDevice } from "./device-command.ts";
import { controlKey } from "./escape-key.ts";
import { printEvents } from "./events.ts";
import { addMember, listMembers, memberLines, removeMember } from "./members.ts";
import { statsLines } from "./stats.ts";
import { statusLines } from "./status.ts";
import { upgrade } from "./upgrade.ts";

type Answered = { value: unknown; lines: string[] };

export async function ctl(
  pathOrName: string,
  command: string,
  args: readonly string[],
  options: CtlOptions,
): Promise<number> {
  const { timeout, json, escape: key, force, port } = options;
  const peer = { socketPath: resolveControlSocket(pathOrName), timeoutMs: timeout * 1000 };
  try {
    if (command === "attach") {
      const { attach } = await import("./attach.ts");
      return await attach(peer, args[0], { escape: controlKey(key), force: force ?? false });
    }
    if (command === "backup") {
      const { backup } = await import("./backup.ts");
      return await backup(peer, args[0]!, json ?? false);
    }
    if (command === "screenshot") {
      const { screenshot } = await import("./screenshot.ts");
      await screenshot(peer, args[0]!, args[1], json ?? false);
    } else if (command === "view") {
      const { view } = await import("./view/view.ts");
      await view(peer, args[0], { port, isJson: json ?? false });
    } else if (command === "events") await printEvents(peer, json ?? false);
    else {
      const { value, lines } = await perform(
        peer,
        command,
        command === "resize" ? resizeArguments(options) : args,
        options,
      );
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

async function perform(
  peer: Peer,
  command: string,
  args: readonly string[],
  { binary, force }: CtlOptions,
): Promise<Answered> {
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
      const value = await askControl<{ level: string }>(peer, "PUT", "/v1/log-level", { level: args[0] });
      return { value, lines: [`It logs ${value.level} and what is worse from now on.`] };
    }
    case "commands": {
      const value = await askCommands(peer);
      return { value, lines: commandLines(value) };
    }
    case "upgrade": {
      const value = await upgrade(peer, binary);
      return {
        value,
        lines: [`Process ${value.pid} serves, release ${value.release}; guests waited ${value.pauseMs} ms.`],
      };
    }
    case "disks": {
      const value = await listMembers(peer, command);
      return { value, lines: memberLines(value, command, terminalWidth()) };
    }
    case "add": {
      const value = await addMember(peer, force ? ["--force", ...args] : args);
      return { value, lines: [`${value.name} is served at ${value.socket}.`] };
    }
    case "remove": {
      const value = await removeMember(peer, args[0]!, force ?? false);
      return { value, lines: [`${value.removed} is served no more.`] };
    }
    case "quit": {
      const value = await askControl(peer, "POST", "/v1/quit");
      return { value, lines: ["It is stopping."] };
    }
    default: {
      const value = await tellDevice(peer, command, args);
      return { value, lines: answerLines(value) };
    }
  }
}

/** As the device takes them. */
function resizeArguments({ size, shrink }: CtlOptions): string[] {
  return [...(size === undefined ? [] : [`--size=${size}`]), ...(shrink ? ["--shrink"] : [])];
}
