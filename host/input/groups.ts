// Events on their way to whoever takes them when it likes, by groups: each ends with SYN_REPORT, and goes whole or not at all. Of what
// was dropped it is told that it was, and how the device is since then.
import { INPUT_EVENT_SIZE } from "../../assembly/spec/virtio-input.ts";
import type { InputEvent } from "../linux/evdev.ts";
import { EV_KEY, EV_SYN, SYN_DROPPED, SYN_REPORT } from "../linux/input-event-codes.ts";
import type { Log } from "../process/log.ts";
import { InputState } from "./state.ts";

/** So many events wait for somebody who is slow, or paused. */
export const BACKLOG = 8192;

const REPORT: InputEvent = { type: EV_SYN, code: SYN_REPORT, value: 0 };
const DROPPED: InputEvent = { type: EV_SYN, code: SYN_DROPPED, value: 0 };

/** Where they wait, in order, as a driver of virtio has them. */
export interface Waiting {
  /** How many more there is room for: none wait if that is BACKLOG. */
  readonly room: number;
  add(...events: readonly Uint8Array[]): void;
  clear(): void;
}

export class Groups {
  private isHeard = false;
  /** The device as it is, and as has been told. */
  private readonly now = new InputState();
  private told = new InputState();
  private hasDropped = false;
  /** What has come of a group without its end. */
  private begun: InputEvent[] = [];
  private goOn = () => {};

  constructor(
    private readonly waiting: Waiting,
    private readonly log: () => Log,
  ) {}

  /** Whether anybody takes events. */
  get isTaken(): boolean {
    return this.isHeard;
  }

  set isTaken(isTaken: boolean) {
    this.isHeard = isTaken;
    this.catchUp();
  }

  /** Somebody else takes events, or the same anew: nothing counts that was told, but that `keys` may be down. They are released. */
  begin(keys: readonly number[] = this.told.keys): void {
    this.waiting.clear();
    this.hasDropped = false;
    this.told = new InputState();
    for (const code of keys) {
      this.told.apply({ type: EV_KEY, code, value: 1 });
      this.now.apply({ type: EV_KEY, code, value: 0 });
    }
    this.now.release();
    this.catchUp();
  }

  /** The next event of the device. */
  next(event: InputEvent): void {
    // A group that never ends does not go on growing.
    if (this.begun.length <= BACKLOG) this.begun.push(event);
    if (event.type !== EV_SYN || event.code !== SYN_REPORT) return;
    const group = this.begun;
    this.begun = [];
    if (group.length > 1) this.add(group);
  }

  /** A group beside those of the device, without its end. False if there is no room for it. */
  insert(events: readonly InputEvent[]): boolean {
    return this.add([...events, REPORT]);
  }

  /** The device is in this state, and what has led there is not known. */
  became(state: readonly InputEvent[]): void {
    this.begun = [];
    this.now.become(state);
    if (this.isHeard) this.drop();
  }

  /** Somebody takes events, and has taken most of them. */
  async room(): Promise<void> {
    while (!this.isHeard || this.waiting.room < BACKLOG / 2)
      await new Promise<void>((resolve) => {
        this.goOn = resolve;
      });
  }

  /** No event waits, or somebody has begun to take them. */
  catchUp(): void {
    this.goOn();
    if (!this.isHeard || this.waiting.room < BACKLOG) return;
    const dropped = this.hasDropped ? [DROPPED, REPORT] : [];
    const changes = this.now.differencesFrom(this.told);
    this.hasDropped = false;
    if (changes.length > 0) changes.push(REPORT);
    if (dropped.length + changes.length > 0) this.tell([...dropped, ...changes]);
  }

  private add(group: readonly InputEvent[]): boolean {
    for (const event of group) this.now.apply(event);
    const hasRoom = !this.hasDropped && group.length <= this.waiting.room;
    if (hasRoom) this.tell(group);
    else this.drop();
    return hasRoom;
  }

  private drop(): void {
    if (!this.hasDropped) this.log().warn("events were dropped: the driver is told so");
    this.hasDropped = true;
    this.catchUp();
  }

  private tell(events: readonly InputEvent[]): void {
    for (const event of events) this.told.apply(event);
    this.waiting.add(...events.map(encode));
  }
}

function encode({ type, code, value }: InputEvent): Uint8Array {
  const bytes = Buffer.alloc(INPUT_EVENT_SIZE);
  bytes.writeUInt16LE(type, 0);
  bytes.writeUInt16LE(code, 2);
  bytes.writeInt32LE(value, 4);
  return bytes;
}
