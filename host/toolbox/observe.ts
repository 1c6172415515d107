// `vringd ctl` and `vringd top`: their options. What they do is loaded when they are called.
import { type Command, oneOf, timeoutOption, UsageError, wholeNumber } from "../command-line/program.ts";

const INTERVAL_MAX = 60;
const TIMEOUT_MAX = 60;

const COMMANDS = ["status", "stats", "events", "log-level", "quit"];

export interface CtlOptions {
  timeout: number;
  json?: true;
}

export interface TopOptions {
  interval: number;
  timeout: number;
  once?: true;
  json?: true;
}

const timeout = timeoutOption("how long a daemon may take to answer", TIMEOUT_MAX, 2);

export function addCtl(program: Command): void {
  program
    .command("ctl")
    .summary("ask or command one running daemon")
    .description(
      "Asks a running daemon of ours, or tells it what to do, by its control socket (--control-socket).",
    )
    .argument("<SOCKET>", "its path; or NAME, for a NAME.control where vringd top looks")
    .argument(
      "<COMMAND>",
      "status: what runs; stats: what it did; events: what happens, until ^C; log-level LEVEL: what it logs; quit: end, as on SIGTERM",
      oneOf(COMMANDS, "vringd ctl"),
    )
    .argument("[LEVEL]", "for log-level: error, warn, info or debug")
    .option(...timeout)
    .option("--json", "print the answer as JSON, for programs; events one a line")
    .addHelpText("after", "\nExit status: 0 if it answered, 1 if not, 2 for wrong usage.")
    .action(async (socket, command, level, options) => {
      if ((level === undefined) === (command === "log-level")) {
        throw new UsageError(
          level === undefined
            ? "log-level takes a level: error, warn, info or debug"
            : `${command} takes no more`,
        );
      }
      const { ctl } = await import("./ctl/ctl.ts");
      process.exitCode = await ctl(socket, command, level, options);
    });
}

export function addTop(program: Command): void {
  program
    .command("top")
    .summary("watch running daemons")
    .description(
      "Shows what running devices do, by queue: requests and data a second, latencies, requests in flight, and how often " +
        "polling pays. Without arguments, all whose control sockets end in .control and lie in $XDG_RUNTIME_DIR/vringd, " +
        "in /run/vringd or one directory below. q ends it.",
    )
    .argument("[SOCKET...]", "their control sockets, or names")
    .option(
      "--interval <SECONDS>",
      "how long to look before numbers are shown",
      wholeNumber(1, INTERVAL_MAX, "--interval"),
      1,
    )
    .option(...timeout)
    .option("--once", "print one interval's numbers, and end; also where the output is no terminal")
    .option("--json", "the same as JSON, for programs")
    .addHelpText("after", "\nExit status: 0, or 1 if none answered, 2 for wrong usage.")
    .action(async (sockets, options) => {
      const { top } = await import("./top/top.ts");
      process.exitCode = await top(sockets, options);
    });
}
