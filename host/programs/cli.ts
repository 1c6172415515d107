// The command line of vringd-blk: reads and checks options, and tells by the exit status whose mistake it was.
import { availableParallelism } from "node:os";
import { QUEUES_MAX, WORKERS_MAX } from "../../assembly/abi/layout.ts";
import { VIRTIO_BLK_ID_BYTES } from "../../assembly/spec/virtio-blk.ts";
import manifest from "../../package.json" with { type: "json" };
import { optionFor } from "../command-line/option-name.ts";
import {
  type Command,
  CommanderError,
  newProgram,
  numberOneOf,
  oneOf,
  STATUS_FAILED,
  STATUS_USAGE,
  UsageError,
  usageSentence,
  wholeNumber,
} from "../command-line/program.ts";
import { StartError } from "../errors.ts";
import { type MetricsAddress, parseMetricsAddress } from "../observability/metrics-address.ts";
import { createLog, LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel } from "../process/log.ts";
import { nameProcess } from "../process/name.ts";
import { isTooManyFiles, TOO_MANY_FILES } from "../process/open-files.ts";
import { writeError } from "../process/output.ts";
import { printable, programArguments } from "../process/paths.ts";
import type { AccessChoice } from "../protocol/entrance.ts";
import type { DaemonOptions } from "./daemon.ts";

const NAME = "vringd-blk";

const EXIT_MS = 200;

/** A queue count that one thread can still serve alone. */
/** As many segments as the kernel takes in one request. */
const QUEUE_SIZE_MAX = 1024;
const RANGE_SEGMENTS_MAX = 256;
const LOCK_TIMEOUT_MAX = 3600;
const POLL_US_MAX = 1000;
/** (gid_t)-1 means none. */
const GID_MAX = 0xffffffff;

interface CommandLine {
  socketPath?: string;
  socketGroup?: string;
  socketMode?: number;
  connect?: string;
  fd?: number;
  once?: true;
  blkFile?: string;
  overlay?: string;
  readOnly?: true;
  format?: "raw";
  force?: true;
  serial?: string;
  blockSize?: number;
  direct?: true;
  discard: DaemonOptions["disk"]["discard"];
  rangeSegments: number;
  lock: DaemonOptions["disk"]["lock"];
  lockTimeout: number;
  numQueues: number;
  queueSize: number;
  packed?: true;
  engine: DaemonOptions["engine"];
  threads?: number;
  pollUs: number;
  controlSocket?: string;
  controlSocketGroup?: string;
  controlSocketMode?: number;
  metrics?: MetricsAddress;
  metricsGroup?: string;
  metricsMode?: number;
  logLevel: LogLevel;
  logFormat: LogFormat;
}

function serialNumber(text: string): string {
  if (/^[\x20-\x7e]*$/.test(text) && text.length <= VIRTIO_BLK_ID_BYTES) return text;
  throw new UsageError(`--serial takes at most ${VIRTIO_BLK_ID_BYTES} ASCII characters, not "${text}"`);
}

function metricsAddress(text: string): MetricsAddress {
  const address = parseMetricsAddress(text);
  if (address) return address;
  const allowed = "unix:PATH, 127.0.0.1:PORT or [::1]:PORT";
  throw new UsageError(`--metrics takes ${allowed}, where only this machine can ask, not "${text}"`);
}

function fileMode(option: string): (text: string) => number {
  return (text) => {
    if (/^0?[0-7]{3}$/.test(text)) return Number.parseInt(text, 8);
    throw new UsageError(`${option} takes an octal mode such as 660, not "${text}"`);
  };
}

function groupName(option: string): (text: string) => string {
  return (text) => {
    if (text !== "" && (!/^\d+$/.test(text) || Number(text) < GID_MAX)) return text;
    throw new UsageError(`${option} takes the name or the number of a group, not "${text}"`);
  };
}

const BLOCK_SIZES = [512, 1024, 2048, 4096];

/** All options, for whoever reads them: this program, its manual page, and shells. */
export function commandLine(): Command {
  const command = newProgram(NAME)
    .description("Serves a file or a block device as a virtual machine's disk, over vhost-user.")
    .usage("--blk-file=PATH (--socket-path=PATH|--connect=PATH|--fd=N) ...");

  command
    .optionsGroup("Where the virtual machine connects:")
    .option(
      "--socket-path <PATH>",
      "listen on a Unix socket at this path, or at an abstract name, @NAME, for this user and root",
    )
    .option(
      "--socket-group <GROUP>",
      "give the socket to this group, by name or number, and mode 660",
      groupName("--socket-group"),
    )
    .option(
      "--socket-mode <OCTAL>",
      "give the socket this mode (default: what the umask leaves)",
      fileMode("--socket-mode"),
    )
    .option("--connect <PATH>", "connect to a front-end that listens there, and again whenever it has gone")
    .option(
      "--fd <N>",
      "use this open descriptor, of a listening or a connected socket",
      wholeNumber(0, 0x7fffffff, "--fd"),
    )
    .option("--once", "end when the first front-end has left");

  command
    .optionsGroup("The disk:")
    .option(
      "--blk-file <PATH>",
      'serve this file or block device, the open descriptor "fd:N", or the export of an NBD URI; "memory:SIZE", such as memory:1G, is a disk in memory',
    )
    .option(
      "--format <FORMAT>",
      '"raw" serves it whatever it holds (default: raw, and images of other formats are refused)',
      oneOf(["raw"], "--format"),
    )
    .option(
      "--overlay <PATH>",
      "keep what the guest writes in this file, made if there is none; --blk-file stays as it is",
    )
    .option("--read-only", "never write to it; the guest sees a read-only disk")
    .option("--force", "write to a device that the host has mounted, or that others hold")
    .option(
      "--serial <TEXT>",
      "serial number that the guest sees, up to 20 characters (default: made from inode and file system, or what identifies the device)",
      serialNumber,
    )
    .option(
      "--block-size <BYTES>",
      "block size that the guest sees: 512, 1024, 2048 or 4096 (default: 512, whatever the device has)",
      numberOneOf(BLOCK_SIZES, "--block-size"),
    )
    .option("--direct", "go past the host's page cache, with O_DIRECT")
    .option(
      "--discard <HOW>",
      'what a discard does: "unmap" gives the space back, "ignore" does nothing',
      oneOf(["unmap", "ignore"], "--discard"),
      "unmap",
    )
    .option(
      "--range-segments <N>",
      "segments that one discard or write-zeroes request may have",
      wholeNumber(1, RANGE_SEGMENTS_MAX, "--range-segments"),
      1,
    )
    .option(
      "--lock <WHEN>",
      '"auto" keeps other writers away, as QEMU does, wherever the file system has locks; "off" trusts you',
      oneOf(["auto", "off"], "--lock"),
      "auto",
    )
    .option(
      "--lock-timeout <SECONDS>",
      "how long to wait for the I/O of a killed process that still locks the file",
      wholeNumber(0, LOCK_TIMEOUT_MAX, "--lock-timeout"),
      30,
    );

  command
    .optionsGroup("Queues and threads:")
    .option(
      "--num-queues <N>",
      "queues that the guest may use; those that it doesn't cost nothing",
      wholeNumber(1, QUEUES_MAX, "--num-queues"),
      QUEUES_MAX,
    )
    .option(
      "--queue-size <N>",
      "queue size to expect: requests may have N - 2 segments; queues of any size are served",
      wholeNumber(4, QUEUE_SIZE_MAX, "--queue-size"),
      128,
    )
    .option("--packed", "offer packed virtqueues too")
    .option(
      "--engine <NAME>",
      'how to do I/O: "io_uring", "threads", or "auto" for the first that works',
      oneOf(["auto", "io_uring", "threads"], "--engine"),
      "auto",
    )
    .option(
      "--threads <N>",
      `worker threads, which share the queues, up to ${WORKERS_MAX} (default: one a queue, up to the cores)`,
      wholeNumber(1, WORKERS_MAX, "--threads"),
    )
    .option(
      "--poll-us <N>",
      "microseconds that a busy thread may look for more before it sleeps (io_uring only); an idle one always sleeps",
      wholeNumber(0, POLL_US_MAX, "--poll-us"),
      32,
    );

  command
    .optionsGroup("What others may see, and ask for:")
    .option(
      "--control-socket <PATH>",
      "answer questions, and take commands, at a Unix socket of this user's (vringd ctl, vringd top)",
    )
    .option(
      "--control-socket-group <GROUP>",
      "let this group do the same, which can end the daemon, and give mode 660",
      groupName("--control-socket-group"),
    )
    .option(
      "--control-socket-mode <OCTAL>",
      "mode of the control socket (default: 600)",
      fileMode("--control-socket-mode"),
    )
    .option(
      "--metrics <ADDRESS>",
      "let Prometheus in, at unix:PATH or at 127.0.0.1:PORT; never from another machine",
      metricsAddress,
    )
    .option(
      "--metrics-group <GROUP>",
      "group of the socket for metrics, which then has mode 660",
      groupName("--metrics-group"),
    )
    .option(
      "--metrics-mode <OCTAL>",
      "mode of the socket for metrics (default: 600)",
      fileMode("--metrics-mode"),
    );

  command
    .optionsGroup("Log, and questions:")
    .option(
      "--log-level <LEVEL>",
      `${LOG_LEVELS.join(", ")}: the least that is worth a line`,
      oneOf(LOG_LEVELS, "--log-level"),
      "info",
    )
    .option(
      "--log-format <FORMAT>",
      "text or json, on standard error",
      oneOf(LOG_FORMATS, "--log-format"),
      "text",
    )
    .option("--print-capabilities", "tell management software what this can do, as JSON, and end")
    .version(manifest.version, "--version", "tell the version, and end")
    .helpOption("-h, --help", "tell all this, and end")
    .addHelpText("after", "\nExit status: 0 when told to end, 1 if it can't start, 2 for a wrong option.");
  return command;
}

function readCommandLine(): CommandLine {
  try {
    return commandLine().parse(programArguments(), { from: "user" }).opts<CommandLine>();
  } catch (error) {
    if (!(error instanceof CommanderError) || error.exitCode === 0) throw error;
    if (error.code === "commander.excessArguments")
      throw new UsageError("arguments must be options, which begin with --");
    throw new UsageError(usageSentence(error));
  }
}

function daemonOptions(line: CommandLine): DaemonOptions {
  const { blkFile, controlSocket, metrics, numQueues } = line;
  if (blkFile === undefined) throw new UsageError("--blk-file is missing: the file or block device to serve");
  if ([line.socketPath, line.connect, blkFile, line.overlay, controlSocket].includes(""))
    throw new UsageError("a path is empty");
  return {
    entrance: entranceOf(line),
    access: accessTo("--socket", line.socketGroup, line.socketMode, "--socket-path", line.socketPath),
    once: line.once ?? false,
    disk: {
      path: blkFile,
      overlay: line.overlay,
      readOnly: line.readOnly ?? false,
      format: line.format,
      force: line.force ?? false,
      direct: line.direct ?? false,
      blockSize: line.blockSize,
      discard: line.discard,
      serial: line.serial,
      rangeSegments: line.rangeSegments,
      lock: line.lock,
      lockTimeoutMs: line.lockTimeout * 1000,
    },
    blk: { queueCount: numQueues, queueSize: line.queueSize, packed: line.packed ?? false },
    engine: line.engine,
    pollUs: line.pollUs,
    observability: { controlSocket, metrics, ...accessToLook(line) },
    // More threads than queues would have nothing to do.
    threads: Math.min(line.threads ?? availableParallelism(), numQueues, WORKERS_MAX),
  };
}

function entranceOf({ socketPath, connect, fd }: CommandLine): DaemonOptions["entrance"] {
  const given: DaemonOptions["entrance"][] = [];
  if (socketPath !== undefined) given.push({ socketPath });
  if (connect !== undefined) given.push({ connect });
  if (fd !== undefined) given.push({ fd });
  const [entrance, other] = given;
  if (entrance === undefined)
    throw new UsageError(
      "--socket-path or --fd is missing, or --connect: where the virtual machine connects",
    );
  if (other === undefined) return entrance;
  const names = [entrance, other].map((each) =>
    "fd" in each ? "--fd" : "connect" in each ? "--connect" : "--socket-path",
  );
  throw new UsageError(`${names.join(" and ")} exclude each other`);
}

function accessToLook(
  line: CommandLine,
): Pick<DaemonOptions["observability"], "controlAccess" | "metricsAccess"> {
  const { controlSocket, controlSocketGroup, controlSocketMode, metrics, metricsGroup, metricsMode } = line;
  const metricsPath = metrics && "path" in metrics ? metrics.path : undefined;
  return {
    controlAccess: accessTo(
      "--control-socket",
      controlSocketGroup,
      controlSocketMode,
      "--control-socket",
      controlSocket,
    ),
    metricsAccess: accessTo("--metrics", metricsGroup, metricsMode, "--metrics=unix:PATH", metricsPath),
  };
}

/** `prefix`: of the options that say who may connect; they mean nothing without a socket that is a file. */
function accessTo(
  prefix: string,
  group: string | undefined,
  mode: number | undefined,
  option: string,
  path: string | undefined,
): AccessChoice {
  if (group === undefined && mode === undefined) return {};
  const name = group === undefined ? `${prefix}-mode` : `${prefix}-group`;
  if (path === undefined) throw new UsageError(`${name} is of no use without ${option}`);
  if (path.startsWith("@"))
    throw new UsageError(`${name} and ${path} exclude each other: an abstract name has no group and no mode`);
  return { group, mode };
}

async function main(): Promise<void> {
  const line = readCommandLine();
  const options = daemonOptions(line);
  nameProcess(NAME);
  const [log, { runDaemon }] = await Promise.all([
    createLog(line.logLevel, line.logFormat),
    // Loads koffi, which costs as much time as all the rest.
    import("./daemon.ts"),
  ]);
  await runDaemon(options, log);
}

function fail(error: unknown): void {
  if (error instanceof CommanderError) return; // --help and --version
  const isUsage = error instanceof UsageError;
  writeError(`${NAME}: ${sentenceOf(error)}${isUsage ? " (see --help)" : ""}\n`);
  process.exitCode = isUsage ? STATUS_USAGE : STATUS_FAILED;
  if (!isUsage) exitSoon();
}

function sentenceOf(error: unknown): string {
  if (error instanceof StartError) return printable(error.told(optionFor));
  return error instanceof UsageError ? printable(error.message) : unexpected(error as NodeJS.ErrnoException);
}

function unexpected(error: NodeJS.ErrnoException): string {
  if (isTooManyFiles(error)) return TOO_MANY_FILES;
  return error.stack ?? String(error);
}

/** A worker that got further than the failure, and waits in native code, would keep the process for ever. */
function exitSoon(): void {
  setTimeout(async () => {
    try {
      (await import("../linux/libc.ts")).exitNow(STATUS_FAILED);
    } catch {
      // What can't be loaded has started no worker.
      process.exit(STATUS_FAILED);
    }
  }, EXIT_MS).unref();
}

export function run(): void {
  main().catch(fail);
}
