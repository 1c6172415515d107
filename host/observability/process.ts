// What the control socket of a process answers whose devices come and go; each device has one of its own. Described in
// schema/control.openapi.json.
import manifest from "../../package.json" with { type: "json" };
import { type CommonParts, commonRoutes } from "./common-routes.ts";
import { json, type Routes } from "./http-server.ts";
import { type MemberList, memberRoutes } from "./members.ts";
import type { Metrics } from "./metrics.ts";

export interface ProcessStatus {
  /** The program's name. */
  program: string;
  version: string;
  pid: number;
  uptimeSeconds: number;
  logLevel: string;
  /** What its devices are called in paths of the control socket. */
  members: string;
  count: number;
}

/** `metrics`: of all devices that are there now. */
export function processRoutes(
  program: string,
  members: MemberList,
  metrics: () => Metrics,
  parts: CommonParts,
): Routes {
  return {
    "/v1/process": { GET: () => json(statusOf(program, members, parts.log.level)) },
    ...memberRoutes(members),
    // Not where a device has its own: whoever asks all devices would get them twice.
    "/v1/process/metrics": { GET: () => metrics().answer() },
    ...commonRoutes(parts),
  };
}

function statusOf(program: string, members: MemberList, logLevel: string): ProcessStatus {
  return {
    program,
    version: manifest.version,
    pid: process.pid,
    uptimeSeconds: process.uptime(),
    logLevel,
    members: members.many,
    count: members.list().length,
  };
}
