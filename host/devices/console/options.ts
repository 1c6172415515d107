// The program vringd-console: what it says of itself, and its options.
import { optionList } from "../../options/option.ts";
import type { OptionType } from "../../options/types.ts";
import { type HostTarget, parseTarget } from "../../streams/target.ts";
import { deviceProgram } from "../program.ts";

export type PortChoice = HostTarget & { readonly name: string };

const port: OptionType<PortChoice> = {
  takes: "NAME=unix:PATH, NAME=pty:LINK, NAME=file:PATH, NAME=tcp:127.0.0.1:PORT or NAME=stdio",
  read(text) {
    const [, name, target] = /^([^=]{1,64})=(.*)$/s.exec(text) ?? [];
    const parsed = parseTarget(target ?? "");
    return name && parsed ? { name, ...parsed } : undefined;
  },
  accepts: (value): value is PortChoice => typeof value === "object",
};

export const program = deviceProgram({
  name: "vringd-console",
  description: "Gives a virtual machine consoles and named ports, over vhost-user.",
  capabilities: { type: "console" },
  options: {
    port: optionList({
      type: port,
      value: "NAME=KIND:WHERE",
      help: "a port of this name, which ends at unix:PATH (it listens), pty:LINK, file:PATH, tcp:127.0.0.1:PORT or stdio; the first is the console, and so are those whose names begin with hvc",
      required: "NAME=KIND:WHERE of each port",
    }),
  },
  open: async ({ port: ports }) => (await import("./device.ts")).ConsoleDevice.open(ports),
});
