// The options that every device's program has: where front-ends come in, who may look, and what is logged.
import { type MetricsAddress, parseMetricsAddress } from "../observability/metrics-address.ts";
import { inGroup, option, toggle, type ValuesOf } from "../options/option.ts";
import { fileMode, groupName, type OptionType, oneOf, path, wholeNumber } from "../options/types.ts";
import { LOG_LEVELS } from "../process/log.ts";
import { LOG_FORMATS } from "../process/log-format.ts";

export const metricsAddress: OptionType<MetricsAddress> = {
  takes: "unix:PATH, 127.0.0.1:PORT or [::1]:PORT, where only this machine can ask",
  read: parseMetricsAddress,
  accepts: (value): value is MetricsAddress => typeof value === "object" && value !== null,
};

/** Above the device's own. */
export const ENTRANCE_OPTIONS = inGroup("Where the virtual machine connects", {
  socketPath: option({
    type: path,
    value: "PATH",
    help: "listen on a Unix socket at this path, or at an abstract name, @NAME, for this user and root",
  }),
  socketGroup: option({
    type: groupName,
    value: "GROUP",
    help: "give the socket to this group, by name or number, and mode 660",
  }),
  socketMode: option({
    type: fileMode,
    value: "OCTAL",
    help: "give the socket this mode (default: what the umask leaves)",
  }),
  connect: option({
    type: path,
    value: "PATH",
    help: "connect to a front-end that listens there, and again whenever it has gone",
  }),
  fd: option({
    type: wholeNumber(0, 0x7fffffff),
    value: "N",
    help: "use this open descriptor, of a listening or a connected socket",
  }),
  once: toggle("end when the first front-end has left, and no other is connected"),
});

export const RING_OPTIONS = inGroup("Queues and threads", { packed: toggle("offer packed virtqueues too") });

export const OBSERVER_OPTIONS = inGroup("What others may see, and ask for", {
  controlSocket: option({
    type: path,
    value: "PATH",
    help: "answer questions, and take commands, at a Unix socket of this user's (vringd ctl, vringd top)",
  }),
  controlSocketGroup: option({
    type: groupName,
    value: "GROUP",
    help: "let this group do the same, which can end the daemon, and give mode 660",
  }),
  controlSocketMode: option({
    type: fileMode,
    value: "OCTAL",
    help: "mode of the control socket (default: 600)",
  }),
  metrics: option({
    type: metricsAddress,
    value: "ADDRESS",
    help: "let Prometheus in, at unix:PATH or at 127.0.0.1:PORT; never from another machine",
  }),
  metricsGroup: option({
    type: groupName,
    value: "GROUP",
    help: "group of the socket for metrics, which then has mode 660",
  }),
  metricsMode: option({
    type: fileMode,
    value: "OCTAL",
    help: "mode of the socket for metrics (default: 600)",
  }),
});

export const LOG_OPTIONS = inGroup("Log, and questions", {
  logLevel: option({
    type: oneOf(LOG_LEVELS),
    value: "LEVEL",
    help: `${LOG_LEVELS.join(", ")}: the least that is worth a line`,
    default: "info",
  }),
  logFormat: option({
    type: oneOf(LOG_FORMATS),
    value: "FORMAT",
    help: "text or json, on standard error",
    default: "text",
  }),
  printCapabilities: toggle("tell management software what this can do, as JSON, and end"),
});

export const FRAME_OPTIONS = { ...ENTRANCE_OPTIONS, ...RING_OPTIONS, ...OBSERVER_OPTIONS, ...LOG_OPTIONS };

export type FrameValues = ValuesOf<typeof FRAME_OPTIONS>;
