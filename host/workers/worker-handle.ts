// One worker as the data plane holds it: the commands that it has not answered yet, and what it says unasked.
import { EventEmitter } from "node:events";
import { MessageChannel, type MessagePort } from "node:worker_threads";
import type { EngineName } from "../engines/engine.ts";
import type { EngineRecipe } from "../engines/recipe.ts";
import { createEventfd, signalEventfd } from "../linux/eventfd.ts";
import { close } from "../linux/libc.ts";
import { startWorker } from "../process/own-files.ts";
import type { Command, Report, ThreadSetup, WorkerSetup } from "./commands.ts";
import { startHere, type Thread } from "./local-worker.ts";

export type Ready = Extract<Report, { type: "ready" }>;
type Answer = { base?: number };
type Unnumbered<T> = T extends { id: number } ? Omit<T, "id"> : never;

/** What a worker says unasked. `queue` is numbered within the worker. */
interface WorkerEvents {
  broken: [queue: number, fault: number];
  failed: [];
  fellBack: [engine: EngineName];
  deviceNews: [bits: number];
  /** It must not fail: I/O in flight can't be accounted for without it. Unheard, the error is thrown. */
  error: [error: Error];
}

export class WorkerHandle extends EventEmitter<WorkerEvents> {
  /** Rejects if it can't start. */
  readonly ready: Promise<Ready>;
  private readonly thread: Thread;
  private readonly port: MessagePort;
  private readonly controlFd = createEventfd();
  private readonly unanswered = new Map<number, (answer: Answer) => void>();
  private lastId = 0;

  constructor(setup: Omit<WorkerSetup, "port" | "controlFd">, recipe: EngineRecipe) {
    super();
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    const complete = { ...setup, port: port2, controlFd: this.controlFd };
    this.thread =
      recipe.place === "this-thread"
        ? startHere(complete, recipe.open)
        : startThread({ ...complete, recipe });
    this.ready = new Promise((resolve, reject) => {
      this.thread.once("error", reject);
      this.port.on("message", (report: Report) => {
        if (report.type === "ready") resolve(report);
        else this.take(report);
      });
    });
    this.ready.then(
      () => this.thread.on("error", (error) => this.emit("error", error)),
      () => {},
    );
  }

  send(command: Unnumbered<Command>): Promise<Answer> {
    const id = ++this.lastId;
    const answer = new Promise<Answer>((resolve) => {
      this.unanswered.set(id, resolve);
    });
    this.port.postMessage({ ...command, id });
    signalEventfd(this.controlFd);
    return answer;
  }

  async quit(): Promise<void> {
    const exited = new Promise((resolve) => {
      this.thread.once("exit", resolve);
    });
    await this.send({ type: "quit" });
    await exited;
    this.port.close();
    close(this.controlFd);
  }

  private take(report: Exclude<Report, Ready>): void {
    switch (report.type) {
      case "broken":
        this.emit("broken", report.queue, report.fault);
        break;
      case "failed":
        this.emit("failed");
        break;
      case "fell-back":
        this.emit("fellBack", report.engine);
        break;
      case "device-news":
        this.emit("deviceNews", report.bits);
        break;
      case "done": {
        const { id, ...answer } = report;
        this.unanswered.get(id)?.(answer);
        this.unanswered.delete(id);
      }
    }
  }
}

function startThread(workerData: ThreadSetup): Thread {
  return startWorker({ workerData, transferList: [workerData.port] });
}

/** Resolves with what the first worker has to say. If one can't start, none is left running. */
export async function allReady(workers: readonly WorkerHandle[]): Promise<Ready> {
  const results = await Promise.allSettled(workers.map(({ ready }) => ready));
  const failed = results.find((result) => result.status === "rejected");
  if (!failed) return (results[0] as PromiseFulfilledResult<Ready>).value;
  const started = workers.filter((_, i) => results[i]!.status === "fulfilled");
  await Promise.all(started.map((worker) => worker.quit()));
  throw failed.reason;
}
