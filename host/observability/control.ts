// What the control socket of a device answers. Described in schema/control.openapi.json, which it gives away itself.
import type { LimitedLog } from "../process/log-limiter.ts";
import type { Attention } from "./attention.ts";
import { commonRoutes, parse } from "./common-routes.ts";
import { listCommands, runCommand } from "./device-commands.ts";
import type { Events } from "./events.ts";
import { json, type Routes } from "./http-server.ts";
import type { Metrics } from "./metrics.ts";
import { Screens } from "./screens.ts";
import { statsOf } from "./stats.ts";
import { statusOf } from "./status.ts";
import type { Subject } from "./subject.ts";
import type { Terminals } from "./terminals.ts";
import type { Upgrader } from "./upgrader.ts";
import { WatchedScreens } from "./watched-screens.ts";

/** Where a connection becomes a terminal. */
export const TERMINAL_PATH = "/v1/terminals/{port}";

/** `quit` ends the daemon as SIGTERM does. */
export function controlRoutes(
  subject: Subject,
  attention: Attention,
  metrics: Metrics,
  events: Events,
  terminals: Terminals,
  log: LimitedLog,
  quit: () => void,
  upgrade?: Upgrader,
): Routes {
  const commands = () => subject.backend.device.commands ?? {};
  let screens: { pictures: Screens; watched: WatchedScreens } | undefined;
  const screensOf = () => {
    const { device } = subject.backend;
    screens ??= { pictures: new Screens(device), watched: new WatchedScreens(device, log) };
    return screens;
  };
  return {
    "/v1/status": { GET: () => json(statusOf(subject, log.level)) },
    "/v1/stats": {
      GET: () => {
        const wasTimed = subject.backend.activity.isTimed;
        attention.look();
        return json(statsOf(subject, wasTimed));
      },
    },
    "/v1/metrics": { GET: () => metrics.answer() },
    "/v1/commands": {
      GET: () => json(listCommands(commands())),
      POST: async (body) => json(await runCommand(commands(), parse(body))),
    },
    "/v1/terminals": { GET: () => json(terminals.list()) },
    [TERMINAL_PATH]: {
      GET: (_body, _headers, port) => terminals.refuse(port),
      PUT: (body, _headers, port) => json(terminals.resize(port, parse(body))),
      DELETE: (_body, _headers, port) => json(terminals.detach(port)),
    },
    "/v1/screens": { GET: () => json(screensOf().pictures.list()) },
    "/v1/screens/{screen}": {
      GET: (_body, _headers, screen, query) => {
        const since = query.get("since");
        const { pictures, watched } = screensOf();
        return since === null ? pictures.picture(screen) : watched.changes(screen, since);
      },
    },
    ...commonRoutes({ events, log, quit, upgrade }),
  };
}
