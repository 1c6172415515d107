// What a session and its seat ask of each other: two front-ends can be connected, and the one that has the seat is served.

/** A front-end that is connected. */
export interface Occupant {
  /** None of its rings is started ("Ring states"): another may have the seat. */
  readonly isAtRest: boolean;
  /** The device and the rings are this front-end's from here on. */
  seated(): void;
  /** They no longer are. */
  unseated(): void;
}

export interface SessionSeat {
  /** Whether this front-end is the one that is served. */
  readonly isTaken: boolean;
  /** The front-end has come. Takes the seat if it is free. */
  begin(occupant: Occupant): void;
  /** Takes the seat, once no ring of another is started. Throws ProtocolError, which names `what`, if that takes too long. */
  take(what: string): Promise<void>;
  /** The front-end may have come to rest. */
  rested(): void;
  /** The front-end has left: who wants its seat waits for as long as its rings take to stop. */
  ending(): void;
  /** Nothing of it is left. */
  end(): void;
  /** From here on take() waits for nobody. */
  interrupt(): void;
}
