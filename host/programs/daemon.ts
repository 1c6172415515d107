// A daemon from start to end: signals, the service manager, those who look, and its devices, each with one front-end after the other.
import { optionFor } from "../command-line/option-name.ts";
import { StartError } from "../errors.ts";
import { exitNow } from "../linux/libc.ts";
import { connectServiceManager, type ServiceManager, type Tell } from "../linux/service-manager.ts";
import type { Observability, ObservabilityOptions, ObserverChoice } from "../observability/observability.ts";
import { statusOf } from "../observability/status.ts";
import { onAbort } from "../process/abort.ts";
import type { Log } from "../process/log.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import { isHangupIgnored, onStatusSignal } from "../process/signals.ts";
import { leaveDeletedDirectory } from "../process/working-directory.ts";
import type { AccessChoice } from "../protocol/entrance.ts";
import type { Predecessor } from "../upgrade/predecessor.ts";
import type { Standby } from "../upgrade/standby.ts";
import type { ChangingParts } from "./changing.ts";
import type { DeviceChanges } from "./devices.ts";
import type { Keeping } from "./keeping.ts";
import { type DeviceChoice, type Served, tellReady } from "./served.ts";
import { ServedSet } from "./served-set.ts";
import { makeStandby, standBy } from "./standing-by.ts";
import type { Upgraded } from "./upgrading.ts";

export interface DaemonOptions {
  /** The program's. */
  name: string;
  /** One, or several at entrances of their own. */
  devices: readonly DeviceChoice[];
  /** Left out: they are the same until the process ends. */
  changes?: DeviceChanges | undefined;
  /** In whose place this process is to serve. */
  predecessor?: Predecessor | undefined;
  /** Who may connect to each entrance that is a socket of our own. */
  access: AccessChoice;
  /** End when the first front-end has left, and no other is connected. */
  once: boolean;
  /** Offer packed virtqueues too. */
  packed: boolean;
  /** Keep a process that serves as soon as this one has died. */
  standby: boolean;
  observability: ObserverChoice;
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
    if (options.predecessor) log.level = options.predecessor.offer.logLevel;
    const keeping = await findKeeping(options, manager, log);
    const devices = new ServedSet({ ...options, ownSockets: ownSocketsOf(options) }, stopping, log);
    if (!(await start(devices, options, keeping, stopping, log))) return;
    await serve(devices, options, keeping, stopping, manager, log);
    setTimeout(() => exitNow(Number(process.exitCode ?? 0)), EXIT_MS).unref();
  } finally {
    log.flush();
  }
}

/** Where the process listens, beside its devices. */
function ownSocketsOf({ changes, observability: { metrics } }: DaemonOptions): string[] {
  const path = metrics && "path" in metrics ? metrics.path : undefined;
  return [changes?.controlSocket, path].filter((each) => each !== undefined);
}

/** False if a signal came while a device was waited for, such as for the lock of its image. */
async function start(
  devices: ServedSet,
  { name, devices: choices, predecessor }: DaemonOptions,
  keeping: Keeping | undefined,
  stopping: AbortSignal,
  log: LimitedLog,
): Promise<boolean> {
  try {
    await devices.startAll(choices, predecessor?.offer.services);
    if (predecessor?.offer.standsBy) return await standBy(devices, name, predecessor, stopping, log);
    if (!predecessor) await keeping?.comeBack(devices.all);
    else if (!stopping.aborted) await predecessor.takeOver(devices.services);
    return true;
  } catch (error) {
    // Nothing is closed where the rest has failed: all is the predecessor's still.
    await predecessor?.refuse(error instanceof StartError ? error.told(optionFor) : String(error));
    if (stopping.aborted) return false;
    throw error;
  }
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
  devices: ServedSet,
  { name, observability: choice, standby: isStandbyWanted, changes, predecessor }: DaemonOptions,
  keeping: Keeping | undefined,
  stopping: AbortSignal,
  manager: ServiceManager,
  log: LimitedLog,
): Promise<void> {
  let observability: Observability | undefined;
  const ended = predecessor?.ended();
  const tell = ended ? afterEnd(predecessor!, ended, manager.tell) : manager.tell;
  void ended?.then(() => keeping?.succeed(devices.all));
  const observers = { ...choice, name, inherited: predecessor?.offer.sockets };
  const parts = () => ({
    name,
    devices,
    observability: observability!,
    standby,
    standbyState,
    keeping,
    tell,
    stopping,
    log,
  });
  let standby: Standby | undefined;
  const standbyState = isStandbyWanted ? { pid: undefined } : undefined;
  for (const { subject } of devices.all) subject.standby = standbyState;
  try {
    observability = await observe(observers, parts, changes, log).catch((error: unknown) => {
      // Too late to refuse: a guest is served.
      if (!predecessor || !(error instanceof StartError)) throw error;
      log.error({ reason: error.told(optionFor) }, "nobody can look from outside");
      return undefined;
    });
    if (standbyState) standby = await makeStandby(name, devices, observability, standbyState, stopping, log);
    onStatusSignal(() => {
      for (const each of devices.all) logStatus(each);
    });
    for (const each of devices.all) tellReady(each);
    if (changes && devices.all.length === 0) log.info({ [changes.many]: 0 }, "ready");
    tell("READY=1");
    standby?.start();
    await devices.run((status) => tell(`STATUS=${status}`));
  } finally {
    await standby?.end();
    // Before a device lets go of its image: a successor that has waited for that needs the name of this socket.
    observability?.close();
    await devices.close();
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
  parts: () => Upgraded & ChangingParts,
  changes: DeviceChanges | undefined,
  log: LimitedLog,
): Promise<Observability | undefined> {
  const { devices } = parts();
  const controlSocket = changes?.controlSocket;
  const hasControl =
    controlSocket !== undefined || devices.all.some((each) => each.controlSocket !== undefined);
  if (options.metrics === undefined && !hasControl) return undefined;
  const [{ Observability }, { Upgrading }] = await Promise.all([
    import("../observability/observability.ts"),
    import("./upgrading.ts"),
  ]);
  const members = changes && new (await import("./changing.ts")).Changing(changes, devices, parts, log);
  const process = members && controlSocket !== undefined ? { controlSocket, members } : undefined;
  return Observability.open({ ...options, upgrade: new Upgrading(parts), process }, devices.all, log);
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
