// `vringd vsock`: its commands and their options. What they do is loaded when they are called.
import { type Command, timeoutOption, wholeNumber } from "../../command-line/program.ts";

export interface ConnectOptions {
  timeout: number;
}

/** The last port stands for any. */
const PORT_MAX = 0xfffffffe;
const TIMEOUT_MAX = 3600;

export function addVsock(program: Command): void {
  program
    .command("vsock")
    .summary("reach sockets in guests")
    .description(
      "Reaches programs in guests that have sockets of vringd-vsock, or of another back-end of the kind.",
    )
    .command("connect")
    .summary("be connected to a port of a guest")
    .description(
      "Connects its own standard streams to a port of a guest, as ssh's ProxyCommand does it. The end of the input ends " +
        "that direction alone; it is over when the guest ends the other one.",
    )
    .argument(
      "<SOCKET>",
      "the Unix socket of --uds-path, or of another back-end that takes CONNECT; or NAME, for a NAME.control where vringd top looks",
    )
    .argument("<PORT>", "of the guest", wholeNumber(0, PORT_MAX, "PORT"))
    .option(...timeoutOption("how long the guest may take to answer", TIMEOUT_MAX, 12))
    .addHelpText(
      "after",
      "\nExit status: 0 when the connection has ended, 1 if there was none, 2 for wrong usage.",
    )
    .action(async (socket: string, port: number, options: ConnectOptions) => {
      const { connect } = await import("./connect.ts");
      process.exitCode = await connect(socket, port, options);
    });
}
