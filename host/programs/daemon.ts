// A device's daemon from start to end: signals, the service manager, those who look, and one front-end after the other.
import { Service } from "../backend/service.ts";
import type { AnyDevice } from "../devices/engine-device.ts";
import type { OpenContext } from "../devices/program.ts";
import { exitNow } from "../linux/libc.ts";
import { connectServiceManager, type Tell } from "../linux/service-manager.ts";
import type { Observability, ObservabilityOptions } from "../observability/observability.ts";
import { statusOf } from "../observability/status.ts";
import type { Subject } from "../observability/subject.ts";
import type { Log } from "../process/log.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import { isHangupIgnored, onStatusSignal } from "../process/signals.ts";
import { leaveDeletedDirectory } from "../process/working-directory.ts";
import type { AccessChoice, Entrance } from "../protocol/entrance.ts";

export interface DaemonOptions {
  /** The program's. */
  name: string;
  entrance: Entrance;
  /** Who may connect to `entrance`, where that is a socket of our own. */
  access: AccessChoice;
  /** End when the first front-end has left. */
  once: boolean;
  /** Offer packed virtqueues too. */
  packed: boolean;
  observability: ObservabilityOptions;
  /** What the options name in the file system. */
  paths: readonly string[];
  openDevice(context: OpenContext): Promise<AnyDevice>;
}

/** EX_SOFTWARE of sysexits.h. */
const STATUS_BUG = 70;

/** Requests that the kernel doesn't finish must not hold up a shutdown for ever. */
const SHUTDOWN_MS = 5000;

/** Serves until a signal ends it, or until the one connection that it was given has ended. */
export async function runDaemon(options: DaemonOptions, log: LimitedLog): Promise<void> {
  const stopping = abortOnSignal(log);
  endOnBug(log);
  leaveDeletedDirectory(options.paths);
  const tell = connectServiceManager();
  stopping.addEventListener("abort", () => tell("STOPPING=1", "STATUS=stopping"));
  try {
    const service = await start(options, stopping, log);
    if (service === undefined) return;
    await serve(service, options, tell, log);
  } finally {
    log.flush();
  }
}

/** Undefined if a signal came while the device was waited for, such as for the lock of its image. */
async function start(
  options: DaemonOptions,
  stopping: AbortSignal,
  log: LimitedLog,
): Promise<Service | undefined> {
  const openDevice = () => options.openDevice({ stopping, log });
  try {
    return await Service.start({ ...options, openDevice }, stopping, log);
  } catch (error) {
    if (stopping.aborted) return undefined;
    throw error;
  }
}

async function serve(
  service: Service,
  { name, entrance, observability: choice }: DaemonOptions,
  tell: Tell,
  log: LimitedLog,
): Promise<void> {
  const { backend } = service;
  const subject: Subject = { name, entrance, backend };
  let observability: Observability | undefined;
  try {
    observability = await observe(choice, subject, log);
    onStatusSignal(() => logStatus(subject, log));
    log.info({ ...entrance, ...backend.device.facts?.log }, "ready");
    tell("READY=1");
    await service.run((status) => tell(`STATUS=${status}`));
  } finally {
    // Before the device lets go of its image: a successor that has waited for that needs the name of this socket.
    observability?.close();
    await service.close();
  }
}

/** What `vringd ctl` calls status, whatever the level: it was asked for. */
function logStatus(subject: Subject, log: LimitedLog): void {
  const { level } = log;
  const status = statusOf(subject, level);
  log.level = "info";
  log.info({ status }, "status");
  log.level = level;
}

/** Costs nothing if nobody is to look. */
async function observe(
  options: ObservabilityOptions,
  subject: Subject,
  log: LimitedLog,
): Promise<Observability | undefined> {
  if (options.controlSocket === undefined && options.metrics === undefined) return undefined;
  const { Observability } = await import("../observability/observability.ts");
  return Observability.open(options, subject, log);
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
