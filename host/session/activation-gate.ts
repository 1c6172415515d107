// Lets rings start once the device is this process's: another may have what it stores, and hand it over while the guest moves.
import { type Activation, NotActivated } from "../devices/device.ts";

export interface GateEvents {
  /** The device is this process's now: the rings that were held up may start. */
  opened(): void;
  /** It is not going to be, for the reason that a sentence gives: the rings that were held up can't start. */
  refused(reason: string): void;
}

interface Wait {
  controller: AbortController;
  /** Whether it has brought the device. */
  ended: Promise<boolean>;
}

export class ActivationGate {
  private waiting: Wait | undefined;
  /** The device was taken for rings of which none has started yet. */
  private isUnused = false;

  constructor(
    private readonly activation: Activation | undefined,
    private readonly events: GateEvents,
  ) {}

  /** Whether a ring may start now. If not, one of the events will follow, unless end() is called before. */
  async pass(): Promise<boolean> {
    const { activation } = this;
    if (activation === undefined || activation.isActive) return true;
    if (this.waiting !== undefined) return false;
    // What goes wrong is told by the next try.
    const isActive = await activation.activate().catch(onlyRefused);
    if (isActive) this.isUnused = true;
    else this.wait(activation);
    return isActive;
  }

  /** A ring runs. */
  used(): void {
    this.isUnused = false;
  }

  /**
   * No ring is to start any more, and none runs. What was taken for nothing is given back: another may want it. Before another
   * front-end of this process can have the seat, and the device with it.
   */
  async end(): Promise<void> {
    const { waiting } = this;
    this.waiting = undefined;
    waiting?.controller.abort();
    const isTaken = (await waiting?.ended) ?? false;
    if (!isTaken && !this.isUnused) return;
    this.isUnused = false;
    await this.handOver();
  }

  /** All rings have stopped for good, as a migration's source leaves them. The same holds. */
  async handOver(): Promise<void> {
    await this.activation?.inactivate();
  }

  private wait(activation: Activation): void {
    const controller = new AbortController();
    const { signal } = controller;
    const tell = (event: () => void) => {
      if (signal.aborted) return;
      this.waiting = undefined;
      event();
    };
    const ended = activation.untilActive(signal).then(
      () => {
        tell(() => {
          this.isUnused = true;
          this.events.opened();
        });
        return true;
      },
      (error: unknown) => {
        if (!signal.aborted) tell(() => this.events.refused(onlyReason(error)));
        return false;
      },
    );
    this.waiting = { controller, ended };
  }
}

function onlyRefused(error: unknown): false {
  onlyReason(error);
  return false;
}

/** Throws what is a bug. */
function onlyReason(error: unknown): string {
  if (error instanceof NotActivated) return error.message;
  throw error;
}
