// The devices of a process: they start and end together, unless members come and go while it runs. Whatever becomes of one, the others
// go on.
import type { Service } from "../backend/service.ts";
import type { ServiceOffer } from "../backend/service-state.ts";
import { whyNotTogether } from "../devices/members.ts";
import type { Member, MemberWords } from "../devices/program.ts";
import { aborted, onAbort } from "../process/abort.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import { type Place, type PlaceState, socketsOf, stateOf } from "./place.ts";
import { type Common, type DeviceChoice, type Served, start } from "./served.ts";

export interface SetOptions extends Common {
  /** Where the process listens, beside its devices. */
  readonly ownSockets: readonly string[];
  /** Left out: the devices are the same until the process ends. */
  readonly changes?: MemberWords | undefined;
}

export interface ListedMember {
  readonly member: Member;
  readonly state: PlaceState;
}

export class ServedSet {
  /** In the order in which they came. */
  private readonly places = new Set<Place>();
  private connected = 0;
  private isHeld = false;
  /** Tells a service manager what the process does. */
  private tell: (status: string) => void = () => {};
  private fail: (error: unknown) => void = () => {};

  constructor(
    private readonly options: SetOptions,
    private readonly stopping: AbortSignal,
    private readonly log: LimitedLog,
  ) {
    onAbort(stopping, () => {
      for (const { ending } of this.places) ending.abort();
    });
  }

  /** Those that are open. */
  get all(): readonly Served[] {
    return [...this.places].flatMap(({ served }) => served ?? []);
  }

  get services(): readonly Service[] {
    return this.all.map(({ service }) => service);
  }

  /** How each was asked for, in the same order. Undefined: they are the same until the process ends. */
  get asked(): readonly unknown[] | undefined {
    return this.options.changes && this.all.map(({ member }) => member!.asked);
  }

  list(): ListedMember[] {
    return [...this.places].flatMap((place) => {
      const { member } = place.choice;
      return member === undefined ? [] : { member, state: stateOf(place) };
    });
  }

  has(name: string): boolean {
    return this.list().some(({ member }) => member.name === name);
  }

  /**
   * All listen when this resolves. `inherited`: of a predecessor, in the same order. Throws what the first one throws that can't start;
   * the others are closed then.
   */
  async startAll(choices: readonly DeviceChoice[], inherited?: readonly ServiceOffer[]): Promise<void> {
    for (const choice of choices) this.placeFor(choice);
    try {
      for (const [i, place] of [...this.places].entries()) await this.start(place, inherited?.[i]);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** Until each has ended; where members come and go, until the process is told to end. */
  run(tell: (status: string) => void): Promise<void> {
    const { changes } = this.options;
    if (changes === undefined && this.places.size === 1) return this.services[0]!.run(tell);
    this.tell = tell;
    const failed = new Promise<never>((_, reject) => {
      this.fail = reject;
    });
    for (const place of this.places) this.begin(place);
    this.count(0);
    return Promise.race([failed, changes === undefined ? this.untilAllHaveEnded() : this.untilToldToEnd()]);
  }

  /**
   * One more. `show`: done when it listens, before anybody is served there. Rejects with a RangeError, a sentence, and with a StartError;
   * nothing of it is left then, and the others go on.
   */
  async add(choice: DeviceChoice, show: (served: Served) => Promise<void>): Promise<Served> {
    this.refuseChange();
    const members = [...this.list().map(({ member }) => member), choice.member!];
    const why = whyNotTogether(members, this.options.changes!);
    if (why !== undefined) throw new RangeError(why);
    const place = this.placeFor(choice);
    const adding = this.addAt(place, show);
    place.change = adding;
    return adding;
  }

  /**
   * Ends a member: the connections of its front-ends, its entrance, its device. `hide`: done before the device is closed. Rejects with a
   * RangeError, a sentence.
   */
  async remove(name: string, isForced: boolean, hide: (served: Served) => void): Promise<void> {
    this.refuseChange();
    const place = [...this.places].find(({ choice }) => choice.member?.name === name)!;
    const who = `${this.options.changes!.one} ${name}`;
    const state = stateOf(place);
    if (state === "connected" && !isForced)
      throw new RangeError(`a front-end is connected to ${who}: end its guest first, or force it`);
    if (state === "starting" || state === "ending")
      throw new RangeError(`${who} is ${state}: try again when that has ended`);
    const removing = this.removeAt(place, hide);
    place.change = removing;
    return removing;
  }

  /** Nobody comes or goes any more, unless `work` fails. Rejects with a RangeError, a sentence, where somebody is about to. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    const { changes } = this.options;
    const busy = this.list().find(({ state }) => state === "starting" || state === "ending");
    if (changes !== undefined && busy !== undefined)
      throw new RangeError(
        `${changes.one} ${busy.member.name} is ${busy.state}: try again when that has ended`,
      );
    const wasHeld = this.isHeld;
    this.isHeld = true;
    try {
      return await work();
    } catch (error) {
      this.isHeld = wasHeld;
      throw error;
    }
  }

  async close(): Promise<void> {
    const { all } = this;
    const results = await Promise.allSettled(all.map(({ service }) => service.close()));
    for (const { log } of all) log.flush();
    const failed = results.find((result) => result.status === "rejected");
    if (failed) throw failed.reason;
  }

  private refuseChange(): void {
    if (this.stopping.aborted) throw new RangeError("this process was told to end");
    if (this.isHeld) throw new RangeError("an upgrade is under way: try again when it has ended");
  }

  private placeFor(choice: DeviceChoice): Place {
    const ending = new AbortController();
    if (this.stopping.aborted) ending.abort();
    const place = { choice, ending };
    this.places.add(place);
    return place;
  }

  private async start(place: Place, inherited?: ServiceOffer): Promise<Served> {
    const ownSockets = [...[...this.places].flatMap(socketsOf), ...this.options.ownSockets];
    const context = { stopping: place.ending.signal, log: this.log, ownSockets };
    place.served = await start(place.choice, this.options, inherited, context);
    return place.served;
  }

  private begin(place: Place): void {
    const { service } = place.served!;
    service.events.on("connect", () => this.count(1)).on("disconnect", () => this.count(-1));
    place.run = service.run();
    place.run.catch((error) => this.fail(error));
  }

  private async addAt(place: Place, show: (served: Served) => Promise<void>): Promise<Served> {
    try {
      const served = await this.start(place);
      await show(served);
      if (place.ending.signal.aborted) throw new RangeError("this process was told to end");
      this.begin(place);
      this.count(0);
      return served;
    } catch (error) {
      this.places.delete(place);
      if (place.served) await closeForGood(place.served);
      throw error;
    }
  }

  private async removeAt(place: Place, hide: (served: Served) => void): Promise<void> {
    const served = place.served!;
    place.ending.abort();
    hide(served);
    await place.run;
    await closeForGood(served);
    this.places.delete(place);
    this.count(0);
  }

  private count(change: number): void {
    this.connected += change;
    this.tell(`serving ${this.connected} of ${this.all.length} front-ends`);
  }

  private async untilAllHaveEnded(): Promise<void> {
    await Promise.all([...this.places].map(({ run }) => run));
  }

  private async untilToldToEnd(): Promise<void> {
    await aborted(this.stopping);
    await Promise.allSettled([...this.places].map(({ change }) => change));
    await this.untilAllHaveEnded();
  }
}

/** What it has counted goes with its memory. */
async function closeForGood({ service, log }: Served): Promise<void> {
  await service.close();
  service.backend.releaseMemory();
  log.flush();
}
