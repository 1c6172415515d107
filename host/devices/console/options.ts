// The program vringd-console: what it says of itself, and its options.
import * as spec from "../../../assembly/spec/virtio-console.ts";
import { optionList } from "../../options/option.ts";
import { namedTarget } from "../../streams/target.ts";
import { deviceProgram } from "../program.ts";

export const FEATURE_NAMES = {
  [spec.VIRTIO_CONSOLE_F_SIZE]: "VIRTIO_CONSOLE_F_SIZE",
  [spec.VIRTIO_CONSOLE_F_MULTIPORT]: "VIRTIO_CONSOLE_F_MULTIPORT",
  [spec.VIRTIO_CONSOLE_F_EMERG_WRITE]: "VIRTIO_CONSOLE_F_EMERG_WRITE",
};

export const program = deviceProgram({
  name: "vringd-console",
  description: "Gives a virtual machine consoles and named ports, over vhost-user.",
  capabilities: { type: "console" },
  options: {
    port: optionList({
      type: namedTarget,
      value: "NAME=KIND:WHERE",
      help: "a port of this name, which ends at unix:PATH (it listens), pty:LINK, file:PATH, tcp:127.0.0.1:PORT, stdio or none; the first is the console, and so are those whose names begin with hvc; vringd ctl NAME attach is a terminal on any of them",
      required: "NAME=KIND:WHERE of each port",
    }),
  },
  traits: {
    hasQueues: (count) => count % 2 === 0,
    featureNames: FEATURE_NAMES,
    configBytes: spec.CONSOLE_CONFIG_SIZE,
    // A size has two numbers, or none.
    isConfig([cols = 0, colsHigh = 0, rows = 0, rowsHigh = 0, portCount = 0]) {
      return portCount !== 0 && (cols + colsHigh === 0) === (rows + rowsHigh === 0);
    },
  },
  open: async ({ port: ports }) => (await import("./device.ts")).ConsoleDevice.open(ports),
});
