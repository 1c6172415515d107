// A daemon from start to end: signals, the service manager, those who look, and its devices, each with one front-end after the other.
import manifest from "../../package.json" with { type: "json" };
import { optionFor } from "../command-line/option-name.ts";
import { StartError } from "../errors.ts";
import { exitNow } from "../linux/libc.ts";
import { connectServiceManager, type ServiceManager, type Tell } from "../linux/service-manager.ts";
import type { Observability, ObservabilityOptions } from "../observability/observability.ts";
import { statusOf } from "../observability/status.ts";
import { onAbort } from "../process/abort.ts";
import type { Log } from "../process/log.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import { isHangupIgnored, onStatusSignal } from "../process/signals.ts";
import { leaveDeletedDirectory } from "../process/working-directory.ts";
import type { AccessChoice } from "../protocol/entrance.ts";
import { SUCCESSOR_FD } from "../upgrade/messages.ts";
import type { Predecessor } from "../upgrade/predecessor.ts";
import type { Standby } from "../upgrade/standby.ts";
import type { Keeping } from "./keeping.ts";
import { closeAll, type DeviceChoice, runAll, type Served, startAll } from "./served.ts";
import { makeStandby, standBy } from "./standing-by.ts";
import type { Upgraded } from "./upgrading.ts";

export interface DaemonOptions {
  /** The program's. */
  name: string;
  /** One, or several at entrances of their own. */
  devices: readonly DeviceChoice[];
  /** Who may connect to each entrance that is a socket of our own. */
  access: AccessChoice;
  /** End when the first front-end has left, and no other is connected. */
  once: boolean;
  /** Offer packed virtqueues too. */
  packed: boolean;
  /** Keep a process that serves as soon as this one has died. */
  standby: boolean;
  observability: ObservabilityOptions;
  /** What the options name in the file system. */
  paths: readonly string[];
}

/** EX_SOFTWARE of sysexits.h. */
const STATUS_BUG = 70;

/** How long what is left may keep the process after its end, such as a read of a source that does not answer. */
const EXIT_MS = 200;

/** Requests that the kernel doesn't finish must not hold up a shutdown for ever. */
const SHUTDOWN_MS = 5000;

/** Serves until a signal ends it, or until the one connection that it was given has ended. */
export async function runDaemon(options: DaemonOptions, log: LimitedLog): Promise<void> {
  const stopping = abortOnSignal(log);
  endOnBug(log);
  leaveDeletedDirectory(options.paths);
  const manager = connectServiceManager();
  onAbort(stopping, () => manager.tell("STOPPING=1", "STATUS=stopping"));
  try {
    const predecessor = await findPredecessor(options.name);
    if (predecessor) log.level = predecessor.offer.logLevel;
    const keeping = await findKeeping(options, manager, log);
    const served = await start(options, predecessor, keeping, stopping, log);
    if (served === undefined) return;
    await serve(served, options, predecessor, keeping, stopping, manager, log);
    setTimeout(() => exitNow(Number(process.exitCode ?? 0)), EXIT_MS).unref();
  } finally {
    log.flush();
  }
}

/** Undefined if a signal came while a device was waited for, such as for the lock of its image. */
async function start(
  options: DaemonOptions,
  predecessor: Predecessor | undefined,
  keeping: Keeping | undefined,
  stopping: AbortSignal,
  log: LimitedLog,
): Promise<Served[] | undefined> {
  try {
    const inherited = predecessor?.offer.services;
    const served = await startAll(options.devices, options, inherited, stopping, log);
    if (predecessor?.offer.standsBy) return await standBy(served, options.name, predecessor, stopping, log);
    if (!predecessor) await keeping?.comeBack(served);
    else if (!stopping.aborted) await predecessor.takeOver(served.map(({ service }) => service));
    return served;
  } catch (error) {
    // Nothing is closed where the rest has failed: all is the predecessor's still.
    await predecessor?.refuse(error instanceof StartError ? error.told(optionFor) : String(error));
    if (stopping.aborted) return undefined;
    throw error;
  }
}

/** It is this process's parent, which has started it for an upgrade, or to stand by. */
async function findPredecessor(name: string): Promise<Predecessor | undefined> {
  if (process.env[SUCCESSOR_FD] === undefined) return undefined;
  const { Predecessor } = await import("../upgrade/predecessor.ts");
  return Predecessor.find(name, manifest.version);
}

/** Loaded only where a service manager keeps something. */
async function findKeeping(
  { name, standby }: DaemonOptions,
  { store }: ServiceManager,
  log: Log,
): Promise<Keeping | undefined> {
  const { FDSTORE, LISTEN_FDNAMES } = process.env;
  if (FDSTORE === undefined && LISTEN_FDNAMES === undefined) return undefined;
  const { openKeeping } = await import("./keeping.ts");
  // Where a standby goes on, the manager starts nobody who would be handed what it keeps.
  return openKeeping(name, store, !standby, log);
}

async function serve(
  served: readonly Served[],
  { name, observability: choice, standby: isStandbyWanted }: DaemonOptions,
  predecessor: Predecessor | undefined,
  keeping: Keeping | undefined,
  stopping: AbortSignal,
  manager: ServiceManager,
  log: LimitedLog,
): Promise<void> {
  let observability: Observability | undefined;
  const ended = predecessor?.ended();
  const tell = ended ? afterEnd(predecessor!, ended, manager.tell) : manager.tell;
  void ended?.then(() => keeping?.succeed(served));
  const inherited = predecessor?.offer.sockets;
  const upgrade = () => ({
    name,
    served,
    observability: observability!,
    standby,
    keeping,
    tell,
    stopping,
    log,
  });
  let standby: Standby | undefined;
  const standbyState = isStandbyWanted ? { pid: undefined } : undefined;
  for (const { subject } of served) subject.standby = standbyState;
  try {
    observability = await observe({ ...choice, inherited }, upgrade, served, log).catch((error: unknown) => {
      // Too late to refuse: a guest is served.
      if (!predecessor || !(error instanceof StartError)) throw error;
      log.error({ reason: error.told(optionFor) }, "nobody can look from outside");
      return undefined;
    });
    if (standbyState) standby = await makeStandby(name, served, observability, standbyState, stopping, log);
    onStatusSignal(() => {
      for (const each of served) logStatus(each);
    });
    for (const { subject, log } of served)
      log.info({ ...subject.entrance, ...subject.backend.device.facts?.log }, "ready");
    tell("READY=1");
    standby?.start();
    await runAll(served, (status) => tell(`STATUS=${status}`));
  } finally {
    await standby?.end();
    // Before a device lets go of its image: a successor that has waited for that needs the name of this socket.
    observability?.close();
    await closeAll(served);
  }
}

/** What `vringd ctl` calls status, whatever the level: it was asked for. */
function logStatus({ subject, log }: Served): void {
  const { level } = log;
  const status = statusOf(subject, level);
  log.level = "info";
  log.info({ status }, "status");
  log.level = level;
}

/** The manager hears only its main process, which the predecessor has been until now. */
function afterEnd(predecessor: Predecessor, ended: Promise<void>, tell: Tell): Tell {
  // One that has died has not said so.
  if (predecessor.offer.standsBy) tell(`MAINPID=${process.pid}`);
  return (...assignments) => void ended.then(() => tell(...assignments));
}

/** Costs nothing if nobody is to look. */
async function observe(
  options: ObservabilityOptions,
  upgraded: () => Upgraded,
  served: readonly Served[],
  log: LimitedLog,
): Promise<Observability | undefined> {
  const isSeen = options.metrics !== undefined || served.some((each) => each.controlSocket !== undefined);
  if (!isSeen) return undefined;
  const [{ Observability }, { Upgrading }] = await Promise.all([
    import("../observability/observability.ts"),
    import("./upgrading.ts"),
  ]);
  return Observability.open({ ...options, upgrade: new Upgrading(upgraded) }, served, log);
}

/** A bug of ours, in a worker or here, ends the process at once: an ordinary exit would wait for workers in the kernel. */
function endOnBug(log: Log): void {
  process.on("uncaughtException", (error) => {
    log.error({ err: error }, "this should not have happened");
    exitNow(STATUS_BUG);
  });
}

function abortOnSignal(log: Log): AbortSignal {
  const controller = new AbortController();
  const stop = (signal: string) => {
    if (controller.signal.aborted) return;
    log.info({ signal }, "stopping");
    controller.abort();
    setTimeout(() => {
      log.error("requests are stuck; the image stays locked until the kernel has finished them");
      exitNow(1);
    }, SHUTDOWN_MS).unref();
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, stop);
  process.on("SIGHUP", isHangupIgnored() ? () => {} : stop);
  return controller.signal;
}
