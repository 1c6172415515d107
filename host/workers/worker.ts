// A data-plane worker: steps the core, enters the engine, and minds the control plane's commands, in whichever thread.
import { type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import {
  STEP_BROKEN,
  STEP_CONTROL,
  STEP_FAILED,
  STEP_GUEST_WRITES,
  STEP_POLL,
  STEP_STARVED,
  STEP_STOPPED,
  STEP_SUBMIT_MASK,
  STEP_SYNC_FAILED,
  STEP_THROTTLED,
  STEP_WAIT,
  STEP_WINDOW_MISS,
} from "../../assembly/abi/step.ts";
import type { Core } from "../core/core.ts";
import type { Engine, Patience } from "../engines/engine.ts";
import { FailureBell } from "../memory/failure-bell.ts";
import { workerPtrOf } from "../memory/worker-part.ts";
import type { Command, Report, WorkerSetup } from "./commands.ts";
import { Poller } from "./poller.ts";
import { Windows } from "./windows.ts";
import { WorkerCounts } from "./worker-counts.ts";

/** What the device's part of the core says to the device's part of the host. It is passed on as it is. */
const DEVICE_NEWS = STEP_SYNC_FAILED;

export class Worker {
  private readonly port: MessagePort;
  private readonly windows: Windows;
  private poller: Poller;
  private readonly counts: WorkerCounts;
  private readonly failures: FailureBell;
  /** Stop commands whose queue has not stopped yet: queue to command id. */
  private readonly stops = new Map<number, number>();
  private readonly broken = new Set<number>();
  private quitId: number | undefined;

  constructor(
    private readonly setup: WorkerSetup,
    private readonly core: Core,
    private engine: Engine,
  ) {
    this.port = setup.port;
    this.windows = new Windows(new DataView(setup.memory.buffer), setup.memoryHostAddress, setup.index);
    this.poller = new Poller(core, engine.canPoll ? setup.pollUs : 0);
    this.counts = new WorkerCounts(setup.memory, workerPtrOf(setup.index));
    this.failures = new FailureBell(setup.memory, setup.index);
    engine.attach(core);
    core.openWorker(setup.index, setup.queueCount, engine.requestCount, setup.controlFd);
  }

  /** Turns until told to quit. With io_uring this never yields to the event loop. */
  async run(): Promise<void> {
    while (this.quitId === undefined) {
      const isAwake = this.poller.isOn;
      this.counts.beginTurn();
      const turn = isAwake ? this.core.stepAwake() : this.core.step();
      if (turn & STEP_GUEST_WRITES) this.windows.writeToGuest();
      if (turn & STEP_WINDOW_MISS) this.windows.show(this.core.missedGpa());
      if (turn & STEP_BROKEN) this.reportBroken();
      if (turn & STEP_FAILED && this.failures.ring()) this.report({ type: "failed" });
      if (turn & STEP_STOPPED) this.reportStopped();
      if (turn & STEP_STARVED) this.fallBack();
      if (turn & DEVICE_NEWS) this.report({ type: "device-news", bits: turn & DEVICE_NEWS });
      const pause = this.submit(turn, isAwake);
      if (pause) await pause;
      if (turn & STEP_CONTROL) this.takeCommands();
    }
    this.engine.close();
    this.report({ type: "done", id: this.quitId });
    this.port.close();
  }

  /** Hands the turn's SQEs to the engine; if there is nothing else to do, waits, first by looking and then by sleeping. */
  private submit(turn: number, isAwake: boolean): Promise<void> | undefined {
    const { engine, poller, counts } = this;
    const count = turn & STEP_SUBMIT_MASK;
    if ((turn & STEP_WAIT) === 0) return engine.enter(count, patienceOf(turn));
    if (!isAwake) {
      counts.countSleep();
      // A queue that a limit holds back is looked at again by then.
      const patience = turn & STEP_THROTTLED ? this.core.throttleUs() : "wait";
      return poller.timed(() => engine.enter(count, patience));
    }
    if (count > 0) engine.enter(count, "go-on");
    const found = poller.look();
    counts.countPoll(found !== "nothing");
    if (found === "enter") engine.enter(0, "go-on");
    return undefined;
  }

  /** Goes on with another engine, if this one has named one. What is in flight, and waits to be submitted, goes along. */
  private fallBack(): void {
    const other = this.engine.fallBack?.(this.core);
    if (other === undefined) return;
    this.engine = other;
    this.poller = new Poller(this.core, other.canPoll ? this.setup.pollUs : 0);
    this.report({ type: "fell-back", engine: other.name });
  }

  private report(report: Report): void {
    this.port.postMessage(report);
  }

  private takeCommands(): void {
    for (;;) {
      const received = receiveMessageOnPort(this.port);
      if (!received) return;
      this.perform(received.message as Command);
    }
  }

  private perform(command: Command): void {
    const { core } = this;
    switch (command.type) {
      case "start": {
        const { size, flags, descPtr, driverPtr, devicePtr, base, kickFd, callFd, inflight } = command.start;
        core.placeRing(command.queue, command.start.descGpa, command.start.deviceGpa);
        core.trackInflight(command.queue, inflight?.ptr ?? 0, inflight?.entries ?? 0);
        this.windows.use(command.windows);
        this.engine.forgetMemory?.();
        this.broken.delete(command.queue);
        const allFlags = flags | (this.engine.queueFlags?.(command.queue) ?? 0);
        core.startQueue(command.queue, size, allFlags, descPtr, driverPtr, devicePtr, base, kickFd, callFd);
        this.engine.queueStarted?.(command.queue, size);
        this.report({ type: "done", id: command.id });
        break;
      }
      case "stop": {
        const letGo = this.engine.queueStopping?.(command.queue);
        if (letGo === undefined) this.stop(command);
        else letGo.then(() => this.stop(command));
        break;
      }
      case "set-call":
        core.setCallFd(command.queue, command.callFd);
        this.report({ type: "done", id: command.id });
        break;
      case "set-logging":
        core.setLogging(command.isOn);
        this.report({ type: "done", id: command.id });
        break;
      case "quit":
        this.quitId = command.id;
        break;
    }
  }

  private stop({ queue, id, isSuspend }: Extract<Command, { type: "stop" }>): void {
    if (isSuspend) this.core.suspendQueue(queue);
    else this.core.stopQueue(queue);
    this.stops.set(queue, id);
    this.reportStopped();
    this.engine.wake?.();
  }

  private reportStopped(): void {
    for (const [queue, id] of this.stops) {
      if (!this.core.isStopped(queue)) continue;
      // Before anybody hears of it, and closes them.
      this.engine.forgetDescriptors?.();
      this.stops.delete(queue);
      this.report({ type: "done", id, base: this.core.queueBase(queue) });
    }
  }

  private reportBroken(): void {
    for (let queue = 0; queue < this.setup.queueCount; queue++) {
      const fault = this.core.queueFault(queue);
      if (fault === 0 || this.broken.has(queue)) continue;
      this.broken.add(queue);
      this.report({ type: "broken", queue, fault });
    }
  }
}

function patienceOf(turn: number): Patience {
  return turn & STEP_POLL ? "wait-briefly" : "go-on";
}
