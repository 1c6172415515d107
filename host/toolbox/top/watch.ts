// The daemons that are watched, looked at again and again: each look tells what happened since the one before.
import type { Stats } from "../../observability/stats.ts";
import { askControl, ControlError } from "../control-client.ts";
import { diskName, findControlSockets, resolveControlSocket } from "../control-sockets.ts";
import { type QueueRates, ratesBetween } from "./rates.ts";

/** One daemon at one look. */
export interface Look {
  disk: string;
  socket: string;
  /** First all queues together, then each that is used. Left out at the first look, and where there was no answer. */
  rates?: QueueRates[];
  /** Why there are no rates, if it should have some. */
  problem?: string;
}

export class Watch {
  private before = new Map<string, Stats>();

  /** Without sockets, those that are found, at each look anew. */
  constructor(private readonly sockets: readonly string[]) {}

  async look(): Promise<Look[]> {
    const sockets =
      this.sockets.length > 0 ? this.sockets.map((each) => resolveControlSocket(each)) : findControlSockets();
    const earlier = this.before;
    this.before = new Map();
    return Promise.all(sockets.map((socket) => this.lookAt(socket, earlier.get(socket))));
  }

  private async lookAt(socket: string, before: Stats | undefined): Promise<Look> {
    const disk = diskName(socket);
    try {
      const stats = await askControl<Stats>(socket, "GET", "/v1/stats");
      this.before.set(socket, stats);
      const rates = before && ratesBetween(before, stats);
      return { disk, socket, ...(rates && { rates }) };
    } catch (error) {
      if (!(error instanceof ControlError)) throw error;
      return { disk, socket, problem: error.message };
    }
  }
}
