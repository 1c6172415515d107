// A back-end to be killed, of a device that keeps a journal: each chain that it begins or fails, and in which of its lives. It has
// a queue for each way of recovery. The driver says in each chain how long it is to be held.
import { appendFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Chain, type DeviceQueue, serve, type VirtioDevice } from "vringd";
import { createLog } from "../../host/process/log.ts";
import { FAILED, journalBeside, RECOVERIES, SERVED } from "./chain-journal.ts";

const { values } = parseArgs({
  options: {
    "socket-path": { type: "string" },
    life: { type: "string" },
    packed: { type: "boolean" },
  },
  strict: false,
});
const socketPath = String(values["socket-path"]);
const journal = journalBeside(socketPath);
const life = Number(values.life);
appendFileSync(journal, "");

class Journalist implements VirtioDevice {
  readonly type = "journalist";
  readonly virtioId = 63;
  readonly features = 0n;
  readonly inflight = true;
  readonly queues = RECOVERIES.map((recover, queue) => ({
    name: `${recover}q`,
    credit: "all" as const,
    recover,
    fail: (chain: Chain) => this.end(queue, chain, FAILED),
  }));
  private readonly held = new Map<Chain, NodeJS.Timeout | undefined>();

  start(queue: DeviceQueue): void {
    queue.serve((chain) => this.begin(queue.index, chain), { concurrency: queue.size });
  }

  stop(): void {
    for (const [chain, timer] of this.held) {
      clearTimeout(timer);
      chain.park();
    }
    this.held.clear();
  }

  private begin(queue: number, chain: Chain): void {
    const serial = chain.in.u32();
    const heldMs = chain.in.u32();
    const heldUntilLife = chain.in.u32();
    write(queue, serial, "begun");
    if (heldUntilLife > life) this.held.set(chain, undefined);
    else
      this.held.set(
        chain,
        setTimeout(() => this.answer(chain, serial, SERVED), heldMs),
      );
  }

  private end(queue: number, chain: Chain, outcome: number): void {
    const serial = chain.in.u32();
    write(queue, serial, "failed");
    this.answer(chain, serial, outcome);
  }

  private answer(chain: Chain, serial: number, outcome: number): void {
    this.held.delete(chain);
    for (const value of [serial, life, outcome]) chain.out.u32(value);
    chain.use();
  }
}

function write(queue: number, serial: number, what: string): void {
  appendFileSync(journal, `${life} ${queue} ${serial} ${what}\n`);
}

const stopping = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stopping.abort());
const log = await createLog("info", "text");
const server = await serve({
  device: new Journalist(),
  socketPath,
  packed: values.packed === true,
  signal: stopping.signal,
  log,
});
log.info("ready with the library");
await server.closed;
