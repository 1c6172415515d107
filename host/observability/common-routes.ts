// What every control socket answers, a device's and a process's.
import openapi from "../../schema/control.openapi.json" with { type: "json" };
import { LOG_LEVELS, type LogLevel } from "../process/log.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import type { Events } from "./events.ts";
import { json, RequestError, type Routes } from "./http-server.ts";
import { type Upgrader, upgradeBy } from "./upgrader.ts";

export interface CommonParts {
  readonly events: Events;
  readonly log: LimitedLog;
  /** Ends the daemon as SIGTERM does. */
  quit(): void;
  readonly upgrade?: Upgrader | undefined;
}

export function commonRoutes({ events, log, quit, upgrade }: CommonParts): Routes {
  return {
    "/v1/events": {
      GET: (_, headers) => ({ begin: events.listener(headers["last-event-id"]) }),
    },
    "/v1/openapi.json": { GET: () => json(openapi) },
    "/v1/log-level": {
      PUT: (body) => {
        const level = levelIn(body);
        log.info({ to: level }, "log level changed");
        log.level = level;
        return json({ level });
      },
    },
    "/v1/upgrade": { POST: (body) => upgradeBy(upgrade, parse(body)) },
    "/v1/quit": {
      POST: () => {
        log.info("told to quit");
        return { ...json({ message: "stopping" }, 202), afterwards: quit };
      },
    },
  };
}

function levelIn(body: string): LogLevel {
  const value = parse(body);
  const { level, ...others } = (value ?? {}) as { level?: unknown };
  if (LOG_LEVELS.includes(level as LogLevel) && Object.keys(others).length === 0) return level as LogLevel;
  throw new RequestError(400, `the body must be {"level": one of ${LOG_LEVELS.join(", ")}}`);
}

/** Undefined for what is no JSON. */
export function parse(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}
