// `vringd exporter`: its options. What it does is loaded when it is called.
import { addOptions, valuesOf } from "../../command-line/from-options.ts";
import type { Command } from "../../command-line/program.ts";
import { inGroup, option, type ValuesOf } from "../../options/option.ts";
import { fileMode, groupName, wholeNumber } from "../../options/types.ts";
import { LOG_OPTIONS, metricsAddress } from "../../programs/frame-options.ts";
import { ALL_FOUND, TIMEOUT_MAX } from "../observe.ts";

const { logLevel, logFormat } = LOG_OPTIONS;

const OPTIONS = {
  ...inGroup("Where Prometheus asks", {
    listen: option({
      type: metricsAddress,
      value: "ADDRESS",
      help: "serve /metrics at 127.0.0.1:PORT or at unix:PATH; never to another machine",
      required: "give 127.0.0.1:PORT or unix:PATH, where Prometheus asks",
    }),
    listenGroup: option({
      type: groupName,
      value: "GROUP",
      help: "group of the Unix socket, which then has mode 660",
    }),
    listenMode: option({ type: fileMode, value: "OCTAL", help: "mode of the Unix socket (default: 600)" }),
    timeout: option({
      type: wholeNumber(1, TIMEOUT_MAX),
      value: "SECONDS",
      help: "how long a device may take to answer, before it counts as down",
      default: 2,
    }),
  }),
  ...inGroup("Log", { logLevel, logFormat }),
};

export type ExporterValues = ValuesOf<typeof OPTIONS>;

export function addExporter(program: Command): void {
  const command = program
    .command("exporter")
    .summary("serve the metrics of all running daemons to Prometheus")
    .description(
      `Serves one /metrics for Prometheus with the metrics of many devices, which get the labels "device" and "type". Each time it is asked it looks for them anew. ${ALL_FOUND}`,
    )
    .argument("[SOCKET...]", "their control sockets, or names");
  addOptions(command, OPTIONS);
  command
    .addHelpText("after", "\nExit status: 0 when told to end, 1 if it can't start, 2 for wrong usage.")
    .action(async (sockets, given) => {
      const values = valuesOf(OPTIONS, given);
      const { exporter } = await import("./exporter.ts");
      await exporter(sockets, values);
    });
}
