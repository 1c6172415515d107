// Loads by a driver of ours: there is no guest whose own processor time hides the back-end's.
import { GUEST_CID, type SocketBackEnd, SocketContender } from "./contenders.ts";
import { GuestRings } from "./guest-rings.ts";
import { HostProgram } from "./host-program.ts";
import { type Load, type Sample, sample } from "./loads.ts";

const PORT = 1234;
const CONNECT_MS = 10_000;
/** Writes of the host's in a turn. */
const WRITES_A_TURN = 32;
/** Of what was sent, the rest comes after the end of a round. */
const SETTLE_MS = 50;

export class WithoutGuest {
  private constructor(
    readonly contender: SocketContender,
    private readonly guest: GuestRings,
    private readonly program: HostProgram,
  ) {}

  static async start(backEnd: SocketBackEnd, cores: readonly number[]): Promise<WithoutGuest> {
    const contender = await SocketContender.start(backEnd, cores);
    try {
      const guest = await GuestRings.connect(contender.socketPath, GUEST_CID);
      const program = HostProgram.call(contender.uds, PORT);
      readAnswer(guest, program);
      return new WithoutGuest(contender, guest, program);
    } catch (error) {
      await contender.stop();
      throw error;
    }
  }

  measure(load: Load, seconds: number): Sample {
    this.settle();
    return sample(this.contender, load, () => this.carry(load, performance.now() + seconds * 1000));
  }

  async stop(): Promise<void> {
    this.program.close();
    this.guest.close();
    await this.contender.stop();
  }

  private carry({ kind, writeBytes }: Load, end: number): number {
    if (kind === "to the host") return this.toHost(writeBytes, end);
    return kind === "to the guest" ? this.toGuest(writeBytes, end) : this.roundTrips(end);
  }

  private toHost(writeBytes: number, end: number): number {
    const { guest, program } = this;
    let count = 0;
    while (performance.now() < end) {
      while (guest.maySend(writeBytes)) guest.send(writeBytes);
      guest.turn();
      count += program.take();
    }
    return count;
  }

  private toGuest(writeBytes: number, end: number): number {
    const { guest, program } = this;
    const { received } = guest;
    while (performance.now() < end) {
      for (let i = 0; i < WRITES_A_TURN && program.give(writeBytes) === writeBytes; i++);
      guest.turn();
    }
    return guest.received - received;
  }

  private roundTrips(end: number): number {
    const { guest, program } = this;
    let trips = 0;
    for (; performance.now() < end; trips++) {
      const { received } = guest;
      while (!guest.maySend(1)) guest.turn();
      guest.send(1);
      guest.turn();
      while (program.take() === 0) guest.turn();
      program.give(1);
      while (guest.received === received) guest.turn();
    }
    return trips;
  }

  /** What is on its way arrives. */
  private settle(): void {
    for (let end = performance.now() + SETTLE_MS; performance.now() < end; ) {
      this.guest.turn();
      if (this.program.take() !== 0) end = performance.now() + SETTLE_MS;
    }
  }
}

function readAnswer(guest: GuestRings, program: HostProgram): void {
  for (const end = performance.now() + CONNECT_MS; ; ) {
    guest.turn();
    const line = program.takeText(32);
    if (line.startsWith("OK ") && line.endsWith("\n")) return;
    if (line !== "") throw new Error(`the back-end says "${line}"`);
    if (performance.now() > end) throw new Error("the back-end has no answer for a caller of the host's");
  }
}
