// The daemons that are watched, looked at again and again: each look tells what happened since the one before.
import type { Stats } from "../../observability/stats.ts";
import { askControl, ControlError, NotHereError } from "../control-client.ts";
import { deviceName, findControlSockets, resolveControlSocket } from "../control-sockets.ts";
import { type QueueRates, ratesBetween } from "./rates.ts";

/** One daemon at one look. */
export interface Look {
  /** As its control socket is called. */
  device: string;
  socket: string;
  /** First all queues together, then each that is used. Left out at the first look, and where there was no answer. */
  rates?: QueueRates[];
  /** What the device has an operator watch, by name, as it is at this look. */
  watched?: Readonly<Record<string, string>>;
  /** Why there are no rates, if it should have some. */
  problem?: string;
}

export class Watch {
  private before = new Map<string, Stats>();

  /** Without sockets, those that are found, at each look anew. */
  constructor(
    private readonly sockets: readonly string[],
    private readonly timeoutMs: number,
  ) {}

  async look(): Promise<Look[]> {
    const sockets =
      this.sockets.length > 0 ? this.sockets.map((each) => resolveControlSocket(each)) : findControlSockets();
    const earlier = this.before;
    this.before = new Map();
    const looks = await Promise.all(sockets.map((socket) => this.lookAt(socket, earlier.get(socket))));
    return looks.filter((look) => look !== undefined);
  }

  /** Undefined: it is that of a process whose devices are found, too. */
  private async lookAt(socket: string, before: Stats | undefined): Promise<Look | undefined> {
    const device = deviceName(socket);
    try {
      const stats = await askControl<Stats>(
        { socketPath: socket, timeoutMs: this.timeoutMs },
        "GET",
        "/v1/stats",
      );
      this.before.set(socket, stats);
      const rates = before && ratesBetween(before, stats);
      const { watched } = stats;
      return { device, socket, ...(rates && { rates }), ...(watched && { watched }) };
    } catch (error) {
      if (!(error instanceof ControlError)) throw error;
      if (error instanceof NotHereError && this.sockets.length === 0) return undefined;
      return { device, socket, problem: error.message };
    }
  }
}
