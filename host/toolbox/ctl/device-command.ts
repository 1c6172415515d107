// `vringd ctl NAME COMMAND`, where the command is one that the device has brought.
import type { CommandAnswer } from "../../devices/device.ts";
import type { ListedCommand } from "../../observability/device-commands.ts";
import { askControl, type Peer } from "../control-client.ts";

export interface CommandList {
  commands: ListedCommand[];
}

export function askCommands(peer: Peer): Promise<CommandList> {
  return askControl<CommandList>(peer, "GET", "/v1/commands");
}

export function tellDevice(peer: Peer, command: string, args: readonly string[]): Promise<CommandAnswer> {
  return askControl<CommandAnswer>(peer, "POST", "/v1/commands", { command, arguments: args });
}

export function commandLines({ commands }: CommandList): string[] {
  if (commands.length === 0) return ["The device has no commands of its own."];
  return inColumns(commands.map(({ name, usage, help }) => [`${name} ${usage}`.trimEnd(), help]));
}

export function answerLines(answer: CommandAnswer): string[] {
  return inColumns(Object.entries(answer).map(([name, value]) => [name, String(value)]));
}

function inColumns(rows: [first: string, second: string][]): string[] {
  const width = Math.max(0, ...rows.map(([first]) => first.length));
  return rows.map(([first, second]) => `${first.padEnd(width)}  ${second}`);
}
