// `vringd ctl`, `vringd ls` and `vringd top`: their options. What they do is loaded when they are called.
import {
  type Command,
  passOptions,
  timeoutOption,
  UsageError,
  type ValueReader,
  wholeNumber,
} from "../command-line/program.ts";
import { controlKey } from "./ctl/escape-key.ts";

const INTERVAL_MAX = 60;
export const TIMEOUT_MAX = 60;
const PORT_MAX = 65535;

/** Those that every device has, by how many arguments they take: from, to. */
const COMMANDS: Readonly<Record<string, readonly [number, number]>> = {
  status: [0, 0],
  stats: [0, 0],
  events: [0, 0],
  "log-level": [1, 1],
  attach: [0, 1],
  resize: [0, 0],
  backup: [1, 1],
  disks: [0, 0],
  add: [0, Infinity],
  remove: [1, 1],
  screenshot: [1, 2],
  view: [0, 1],
  commands: [0, 0],
  upgrade: [0, 0],
  quit: [0, 0],
};

const MISTAKES: Readonly<Record<string, string>> = {
  "log-level": "log-level takes a level: error, warn, info or debug",
  attach: "attach takes the name of one port",
  resize: "resize takes --size and --shrink",
  backup: "backup takes the file to make",
  remove: "remove takes the name of one disk, and --force",
  upgrade: "upgrade takes --binary",
  screenshot: "screenshot takes the file to write, or - for standard output, and then the number of a screen",
  view: "view takes the number of one screen",
};

function escapeKey(text: string): string {
  if (text === "none" || controlKey(text)) return text;
  throw new UsageError(`--escape takes a key as ^] or ctrl-a, or none, not "${text}"`);
}

/** Only the daemon knows the names that its device adds. */
const anyCommand: ValueReader<string> = Object.assign((text: string) => text, {
  choices: Object.keys(COMMANDS),
});

export interface CtlOptions {
  timeout: number;
  json?: true;
  escape: string;
  force?: true;
  size?: string;
  shrink?: true;
  binary?: string;
  port: number;
}

export interface LsOptions {
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
  const command = program.command("ctl");
  passOptions(command, ([, verb]) => verb === "add");
  command
    .summary("ask or command one running daemon")
    .description(
      "Asks a running daemon of ours, or tells it what to do, by its control socket (--control-socket).",
    )
    .argument("<SOCKET>", "its path; or NAME, for a NAME.control where vringd top looks")
    .argument(
      "<COMMAND>",
      "status: what runs; stats: what it did; events: what happens, until ^C; log-level LEVEL: what it logs; " +
        "attach [PORT]: be the terminal of a console's port; resize: have a disk take over the size of its file or device; backup FILE: copy a disk as it is now, while its guest goes on; " +
        "disks: what a process of several disks serves; add --name=DISK --socket=PATH --blk-file=PATH ...: have it serve one more, with the options of its program; remove DISK: end one; screenshot FILE [SCREEN]: what a guest's screen shows, as PNG; " +
        "view [SCREEN]: the same, live, for this machine's browsers, until ^C; " +
        "commands: what its device can be told beside these; " +
        "upgrade: have a new process of its program serve in its place, while guests go on; " +
        "quit: end, as on SIGTERM",
      anyCommand,
    )
    .argument(
      "[ARGUMENT...]",
      "for log-level: error, warn, info or debug; for attach: the port, where there are several; for backup: the file to make; for add: options of the disk; for remove: its name; for screenshot: the file, or -, and the screen; for view: the screen; for a command of the device: its own",
    )
    .option(...timeout)
    .option("--json", "print the answer as JSON, for programs; events one a line")
    .option(
      "--escape <KEY>",
      "for attach: the key before q, which detaches, as ^] or ctrl-a; none: there is none",
      escapeKey,
      "^]",
    )
    .option(
      "--force",
      "for attach: detach whoever is attached there; for remove: also while a front-end is connected; for add: as the disk's option",
    )
    .option("--size <BYTES>", "for resize: make the file so large first, such as 20G")
    .option("--shrink", "for resize: also if the disk becomes smaller, and loses what lies behind")
    .option(
      "--binary <PATH>",
      "for upgrade: the program to start, in place of the one that this was started from",
    )
    .option(
      "--port <NUMBER>",
      "for view: listen on this port of 127.0.0.1; 0: any",
      wholeNumber(0, PORT_MAX, "--port"),
      0,
    )
    .addHelpText(
      "after",
      "\nExit status: 0 if it answered, or attach or view was ended by its user; 1 if not; 2 for wrong usage.",
    )
    .action(async (socket, command, args, options) => {
      const [least, most] = Object.hasOwn(COMMANDS, command) ? COMMANDS[command]! : [0, Infinity];
      if (args.length < least || args.length > most)
        throw new UsageError(MISTAKES[command] ?? `${command} takes no more`);
      const { ctl } = await import("./ctl/ctl.ts");
      process.exitCode = await ctl(socket, command, args, options);
    });
}

/** Those that are meant where none is named. */
export const ALL_FOUND =
  "Without arguments, all whose control sockets end in .control and lie in $XDG_RUNTIME_DIR/vringd, in /run/vringd or one directory below.";

export function addLs(program: Command): void {
  program
    .command("ls")
    .summary("list running daemons")
    .description(`Lists running devices: type, process, front-end, rings that run, and disk. ${ALL_FOUND}`)
    .argument("[SOCKET...]", "their control sockets, or names")
    .option(...timeout)
    .option("--json", "print their whole status as JSON, for programs")
    .addHelpText("after", "\nExit status: 0, or 1 if none answered, 2 for wrong usage.")
    .action(async (sockets, options) => {
      const { ls } = await import("./ls/ls.ts");
      process.exitCode = await ls(sockets, options);
    });
}

export function addTop(program: Command): void {
  program
    .command("top")
    .summary("watch running daemons")
    .description(
      "Shows what running devices do, by queue: requests and data a second, latencies, requests in flight, and how often " +
        `polling pays. ${ALL_FOUND} ? lists its keys, q ends it.`,
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
