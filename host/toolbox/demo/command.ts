// `vringd demo`: its subcommands' options. What they do is loaded when they are called.
import { type Command, wholeNumber } from "../../command-line/program.ts";

const PORT_MAX = 65535;

export interface RingOptions {
  /** 0: any that is free. */
  port: number;
  output?: string;
}

export function addDemo(program: Command): void {
  const demo = program
    .command("demo")
    .summary("show how it works")
    .description("Shows how vringd works.")
    .helpCommand(false);
  demo
    .command("ring")
    .summary("a virtqueue to watch, in a browser")
    .description(
      "Serves a page to this machine's browsers in which the core works on a virtqueue, step by step, until Ctrl-C.",
    )
    .option(
      "--port <NUMBER>",
      "listen on this port of 127.0.0.1; 0: any",
      wholeNumber(0, PORT_MAX, "--port"),
      0,
    )
    .option("--output <FILE>", "write the page into a new file instead: it needs no server, and no network")
    .addHelpText("after", "\nExit status: 0 if the file was written, 1 for a problem, 2 for wrong usage.")
    .action(async (options) => {
      const { ring } = await import("./ring.ts");
      process.exitCode = await ring(options);
    });
}
