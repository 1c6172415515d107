// How large the disk is, which may change while it is served: of whoever asks for it, or because the file or device has grown.
// What the core and the config space say goes first, then the guest is told; what is cut off is cut off while no ring runs.
import { reasonOf } from "../../errors.ts";
import type { Log } from "../../process/log.ts";
import { Turns } from "../../process/turns.ts";
import type { Sizing, Storage } from "../../storage/storage.ts";
import type { EngineHost } from "../engine-device.ts";

/** What is asked for, in bytes. */
export interface NewSize {
  /** The file is made so large. Left out: the size that it has by now. */
  readonly byteLength?: bigint | undefined;
  /** Whether it may become smaller. */
  readonly shrink: boolean;
}

/** Who may change the disk. */
export interface DiskHold {
  readonly isActive: boolean;
  /** Rejects with a RangeError while another process has it. */
  change<T>(action: () => Promise<T>): Promise<T>;
}

const ALWAYS_OURS: DiskHold = { isActive: true, change: (action) => action() };

/** Behind it no file has a byte, and a block would end past what off_t counts. */
const BYTES_MAX = (1n << 63n) - 4096n;

export class DiskSize {
  private current: bigint;
  private host: Pick<EngineHost, "log" | "configChanged" | "whileStopped"> | undefined;
  private store: (byteLength: bigint) => void = () => {};
  private readonly turns = new Turns();
  private timer: NodeJS.Timeout | undefined;
  /** Of a file that is too short, as the log has it. */
  private toldShort: bigint | undefined;

  constructor(
    private readonly storage: Pick<Storage, "facts" | "sizing">,
    private readonly hold: DiskHold = ALWAYS_OURS,
  ) {
    this.current = storage.facts.byteLength;
  }

  get byteLength(): bigint {
    return this.current;
  }

  /** `store` is how the core learns of it. */
  attach(
    host: Pick<EngineHost, "log" | "configChanged" | "whileStopped">,
    store: (byteLength: bigint) => void,
  ): void {
    this.host = host;
    this.store = store;
  }

  /** Under a predecessor. Nobody is told: the driver knows. */
  restore(byteLength: bigint): void {
    this.current = byteLength;
    this.store(byteLength);
  }

  /** Hears of changes, where the storage tells of them, and looks every so many seconds whether it has grown, where a look is cheap. */
  watch(seconds: number): void {
    const { sizing } = this.storage;
    if (typeof sizing === "string") return;
    void sizing.onChange?.(() => void this.hear(sizing));
    if (seconds === 0 || sizing.look === undefined) return;
    const look = sizing.look;
    this.timer = setInterval(() => this.lookAgain(sizing, look), seconds * 1000).unref();
  }

  end(): void {
    clearInterval(this.timer);
  }

  /** The guest is told even if nothing has changed. Rejects with a RangeError, which says why not, and nothing has changed then. */
  resize(wanted: NewSize): Promise<void> {
    return this.turns.run(async () => {
      const { sizing, facts } = this.storage;
      if (typeof sizing === "string") throw new RangeError(`${facts.name} ${sizing}`);
      // Else it would be told what another process serves.
      await this.hold.change(async () => {});
      if (wanted.byteLength === undefined) await this.follow(sizing, wanted.shrink);
      else await this.give(sizing, wanted.byteLength, wanted.shrink);
    });
  }

  /** It was another process's until now, which may have changed it. No ring runs. Rejects with a RangeError if it can't be served. */
  async renew(): Promise<void> {
    const { sizing } = this.storage;
    if (typeof sizing === "string") return;
    const found = await sizing.measure(true);
    if (found === 0n) throw new RangeError(`${this.name} is empty: nothing of it can be served`);
    const isOther = found !== this.current;
    this.take(found);
    sizing.taken?.();
    if (isOther) this.host!.configChanged();
  }

  private async follow(sizing: Sizing, shrink: boolean): Promise<void> {
    const found = await sizing.measure(shrink);
    if (found >= this.current) return this.grow(sizing, found);
    this.checkShrink(found, shrink);
    if (found === 0n) throw new RangeError(`${this.name} is empty: nothing of it can be served`);
    await this.host!.whileStopped(async () => this.take(found));
    this.tell(sizing);
  }

  private async give(sizing: Sizing, byteLength: bigint, shrink: boolean): Promise<void> {
    this.checkGiven(sizing, byteLength);
    const set = () => this.hold.change(() => this.set(sizing, byteLength));
    const found = await sizing.measure(false);
    // Also what nobody has taken over yet is somebody's.
    if (byteLength < found || byteLength < this.current) this.checkShrink(byteLength, shrink);
    if (byteLength >= this.current) {
      await set();
      return this.grow(sizing, byteLength);
    }
    await this.host!.whileStopped(async () => {
      const before = this.current;
      // First: what starts a ring meanwhile must not write behind the new end, which would make the file longer again.
      this.take(byteLength);
      await set().catch((error) => {
        this.take(before);
        throw error;
      });
    });
    this.tell(sizing);
  }

  private async set(sizing: Sizing, byteLength: bigint): Promise<void> {
    try {
      await sizing.set!(byteLength);
    } catch (error) {
      throw new RangeError(`${this.name} can't be made ${byteLength} bytes long: ${reasonOf(error)}`);
    }
  }

  private checkGiven(sizing: Sizing, byteLength: bigint): void {
    const { blockSize, readOnly } = this.storage.facts;
    if (sizing.set === undefined) {
      const why = readOnly ? "is served read-only" : "has a size that others give it";
      throw new RangeError(`${this.name} ${why}; without --size its disk becomes as large as it is by then`);
    }
    if (byteLength < blockSize || byteLength % BigInt(blockSize) !== 0n || byteLength > BYTES_MAX) {
      throw new RangeError(
        `a disk can't have ${byteLength} bytes; give --size a multiple of ${blockSize}, up to ${BYTES_MAX}`,
      );
    }
  }

  private checkShrink(byteLength: bigint, shrink: boolean): void {
    if (shrink) return;
    throw new RangeError(
      `the disk would shrink to ${byteLength} bytes, and lose what lies behind; give --shrink if the guest does without that`,
    );
  }

  private grow(sizing: Sizing, byteLength: bigint): void {
    this.take(byteLength);
    this.tell(sizing);
  }

  private take(byteLength: bigint): void {
    if (byteLength === this.current) return;
    const sizes = { from: String(this.current), to: String(byteLength) };
    this.current = byteLength;
    this.store(byteLength);
    this.log.info({ file: this.name, ...sizes }, "the disk has another size");
  }

  private tell(sizing: Sizing): void {
    sizing.taken?.();
    this.host!.configChanged();
  }

  private lookAgain(sizing: Sizing, look: () => bigint): void {
    if (!this.turns.isTaken && this.hold.isActive) this.notice(sizing, look());
  }

  /** Not all that changes is the size. */
  private hear(sizing: Sizing): Promise<void> {
    return this.turns.run(async () => {
      try {
        this.notice(sizing, await sizing.measure(false));
      } catch (error) {
        this.log.warn(
          { file: this.name, reason: reasonOf(error) },
          "the disk may have another size, which can't be told",
        );
      }
    });
  }

  private notice(sizing: Sizing, found: bigint): void {
    if (found > this.current) this.grow(sizing, found);
    else if (found < this.current && found !== this.toldShort) this.tellShort(found);
  }

  private tellShort(found: bigint): void {
    this.toldShort = found;
    this.log.warn(
      { file: this.name, bytes: String(found), served: String(this.current) },
      "the medium has become shorter than its disk, and requests behind its end fail: vringd ctl NAME resize --shrink tells the guest",
    );
  }

  private get name(): string {
    return this.storage.facts.name;
  }

  private get log(): Log {
    return this.host!.log;
  }
}
