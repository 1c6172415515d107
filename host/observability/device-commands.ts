// The commands that a device brings itself, as the control socket lists and runs them.
import type { CommandAnswer, Device } from "../devices/device.ts";
import { RequestError } from "./http-server.ts";

export interface ListedCommand {
  name: string;
  usage: string;
  help: string;
}

export type Commands = NonNullable<Device["commands"]>;

export function listCommands(commands: Commands): { commands: ListedCommand[] } {
  const list = Object.entries(commands).map(([name, { usage, help }]) => ({ name, usage, help }));
  return { commands: list };
}

/** `request`: what the client has sent, which may be anything. */
export async function runCommand(commands: Commands, request: unknown): Promise<CommandAnswer> {
  const { command, arguments: args = [], ...others } = (request ?? {}) as Record<string, unknown>;
  if (typeof command !== "string" || !areStrings(args) || Object.keys(others).length > 0) {
    throw new RequestError(400, 'the body must be {"command": a name, "arguments": a list of strings}');
  }
  if (!Object.hasOwn(commands, command)) throw new RequestError(404, notThere(command, commands));
  try {
    return (await commands[command]!.run(args)) ?? {};
  } catch (error) {
    if (error instanceof RangeError) throw new RequestError(400, error.message);
    throw error;
  }
}

function areStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((each) => typeof each === "string");
}

function notThere(command: string, commands: Commands): string {
  const names = Object.keys(commands);
  const has =
    names.length > 0 ? `its commands are ${names.join(", ")}` : "this device has no commands of its own";
  return `there is no command ${JSON.stringify(command)}: ${has}`;
}
