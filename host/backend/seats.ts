// Who is served of the front-ends that are connected. One has the seat: its memory is mapped and its rings run. The other, such as the
// destination of a migration while the source still runs, says all that it has to say and waits for the seat with its first ring.
import { ProtocolError } from "../errors.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import type { InflightRegion } from "../memory/inflight-region.ts";
import { asFrontEnds } from "../session/request.ts";
import type { Occupant, SessionSeat } from "../session/seat.ts";
import { SeatInflight, SeatMemory } from "./seat-parts.ts";

/** How long a front-end's first ring may wait for another's to stop. A migration's source stops its rings before the destination starts them. */
const PATIENCE_MS = 5000;

export class Seats {
  private holder: Seat | undefined;
  /** Those who wait for a change. */
  private readonly waiting = new Set<() => void>();

  constructor(
    private readonly memory: GuestMemory,
    private readonly inflight: InflightRegion,
    private readonly patienceMs = PATIENCE_MS,
  ) {}

  /** A front-end's own, which must be ended. `changed`: it was taken, or given up. */
  open(changed: (isTaken: boolean) => void): Seat {
    return new Seat(this, new SeatMemory(this.memory), new SeatInflight(this.inflight), changed);
  }

  isHeldBy(seat: Seat): boolean {
    return this.holder === seat;
  }

  get isFree(): boolean {
    return this.holder === undefined;
  }

  /** Throws ProtocolError if it has to wait for too long, or is interrupted. */
  async take(seat: Seat, what: string): Promise<void> {
    const deadlineMs = performance.now() + this.patienceMs;
    while (this.holder !== undefined && this.holder !== seat && !this.holder.isAtRest) {
      const leftMs = this.holder.isEnding ? Number.POSITIVE_INFINITY : deadlineMs - performance.now();
      if (leftMs <= 0 || seat.isInterrupted) {
        throw new ProtocolError(what, "rings of another front-end, which is connected too, are started");
      }
      await this.change(leftMs);
    }
    if (this.holder !== seat) this.hand(seat, what);
  }

  /** The holder is at rest. */
  hand(seat: Seat, what: string): void {
    this.holder?.putAside();
    this.holder = seat;
    asFrontEnds(what, () => seat.show());
  }

  /** By the holder. */
  free(): void {
    this.holder = undefined;
    this.wake();
  }

  wake(): void {
    for (const goOn of [...this.waiting]) goOn();
  }

  private change(mostMs: number): Promise<void> {
    return new Promise((resolve) => {
      const goOn = () => {
        clearTimeout(timer);
        this.waiting.delete(goOn);
        resolve();
      };
      const timer = Number.isFinite(mostMs) ? setTimeout(goOn, Math.ceil(mostMs)) : undefined;
      this.waiting.add(goOn);
    });
  }
}

export class Seat implements SessionSeat {
  isEnding = false;
  isInterrupted = false;
  private occupant: Occupant | undefined;

  constructor(
    private readonly seats: Seats,
    readonly memory: SeatMemory,
    readonly inflight: SeatInflight,
    private readonly changed: (isTaken: boolean) => void,
  ) {}

  get isTaken(): boolean {
    return this.seats.isHeldBy(this);
  }

  get isAtRest(): boolean {
    return this.occupant!.isAtRest;
  }

  begin(occupant: Occupant): void {
    this.occupant = occupant;
    if (this.seats.isFree) this.seats.hand(this, "connect");
  }

  take(what: string): Promise<void> {
    return this.seats.take(this, what);
  }

  rested(): void {
    if (this.isTaken) this.seats.wake();
  }

  ending(): void {
    this.isEnding = true;
    this.rested();
  }

  end(): void {
    if (!this.isTaken) return;
    this.leave();
    this.seats.free();
  }

  interrupt(): void {
    this.isInterrupted = true;
    this.seats.wake();
  }

  /** Throws if what the front-end has given can't be mapped: then it has the seat, and nothing of that. */
  show(): void {
    this.changed(true);
    this.occupant!.seated();
    try {
      this.memory.show();
    } finally {
      this.inflight.show();
    }
  }

  putAside(): void {
    this.memory.putAside();
    this.inflight.putAside();
    this.leave();
  }

  private leave(): void {
    this.occupant!.unseated();
    this.changed(false);
  }
}
