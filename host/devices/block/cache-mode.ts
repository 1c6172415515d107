// Whether each write must be stable when it completes: what follows from the features and from the driver's choice, which is the
// field writeback (virtio 1.4, 5.2.5 and 5.2.6.2). The core reads the outcome before each write.
import {
  WRITE_THROUGH_OFF,
  WRITE_THROUGH_ON,
  WRITE_THROUGH_UNTIL_FLUSH,
} from "../../../assembly/abi/device-block.ts";
import { VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_FLUSH } from "../../../assembly/spec/virtio-blk.ts";
import type { Log } from "../../process/log.ts";
import { hasFeature } from "../../protocol/feature-bits.ts";

/** Where the mode goes: WRITE_THROUGH_*, and the core's note that a FLUSH has come. */
export interface CacheTarget {
  write(mode: number): void;
  forgetFlush(): void;
  hasFlushed(): boolean;
}

/** What a successor must know. */
export interface CacheState {
  /** Whether the driver has chosen writeback. Undefined: neither. */
  readonly chosen: boolean | undefined;
  /** It may have turned it off under another daemon, and has not flushed since. */
  readonly mayBeOff: boolean;
}

export class CacheMode {
  private features = 0n;
  /** What the driver has written; until then the features decide. */
  private chosenWriteback: boolean | undefined;
  /** The driver may have written it while another daemon, or another host, served it. */
  private isInherited = false;
  private runningRings = 0;
  private toldMode: number = WRITE_THROUGH_OFF;
  private target: CacheTarget | undefined;
  private log: Log | undefined;

  attach(target: CacheTarget, log: Log): void {
    this.target = target;
    this.log = log;
    this.apply();
  }

  /** The mode is each front-end's own, and starts with writeback. */
  begin(): void {
    this.features = 0n;
    this.chosenWriteback = undefined;
    this.isInherited = false;
    this.target?.forgetFlush();
    this.apply();
  }

  /**
   * A reset keeps the choice: after it the mode "can be either writeback or writethrough" (5.2.5), and QEMU goes on showing its
   * guest the one that it had.
   */
  negotiate(features: bigint): void {
    this.features = features;
    this.apply();
  }

  choose(isWriteback: boolean): void {
    this.chosenWriteback = isWriteback;
    this.apply();
  }

  /** Whether the driver has chosen writeback. Undefined: neither. */
  get chosen(): boolean | undefined {
    return this.chosenWriteback;
  }

  save(): CacheState {
    return {
      chosen: this.chosenWriteback,
      mayBeOff: this.mode === WRITE_THROUGH_UNTIL_FLUSH && !this.isWriteback,
    };
  }

  /** As a predecessor has left it. */
  restore({ chosen, mayBeOff }: CacheState): void {
    this.chosenWriteback = chosen;
    this.isInherited = mayBeOff;
    this.apply();
  }

  /** The driver was there before this front-end connected. */
  inherit(): void {
    this.isInherited = true;
    this.apply();
  }

  ringsRun(count: number): void {
    this.runningRings = count;
    // The next driver of this guest may have read 0 here: QEMU 9.2 and later show it what writeback was when the capacity changed.
    if (count === 0) this.target?.forgetFlush();
    this.tell();
  }

  get isWriteThrough(): boolean {
    if (hasFeature(this.features, VIRTIO_BLK_F_CONFIG_WCE)) return !this.isSetToWriteback;
    return !hasFeature(this.features, VIRTIO_BLK_F_FLUSH);
  }

  /** The field: the mode in force, since QEMU 9.2 and later show their guest all of the space when its capacity changes. */
  get isWriteback(): boolean {
    if (this.mode !== WRITE_THROUGH_UNTIL_FLUSH) return this.isSetToWriteback;
    return this.target?.hasFlushed() ?? false;
  }

  /** 5.2.5, "Device Initialization": without FLUSH, a device with CONFIG_WCE starts at 0. */
  private get isSetToWriteback(): boolean {
    const canOnlyWriteThrough =
      hasFeature(this.features, VIRTIO_BLK_F_CONFIG_WCE) && !hasFeature(this.features, VIRTIO_BLK_F_FLUSH);
    return this.chosenWriteback ?? !canOnlyWriteThrough;
  }

  /**
   * WRITE_THROUGH_*. Front-ends forward writeback when the driver writes it, but not to a successor. A driver that has turned it
   * off sends no FLUSH; so until one comes, or writeback does, it may be off.
   */
  private get mode(): number {
    if (this.isWriteThrough) return WRITE_THROUGH_ON;
    const mayBeOff = this.isInherited && hasFeature(this.features, VIRTIO_BLK_F_CONFIG_WCE);
    return mayBeOff && this.chosenWriteback === undefined ? WRITE_THROUGH_UNTIL_FLUSH : WRITE_THROUGH_OFF;
  }

  private apply(): void {
    this.target?.write(this.mode);
    this.tell();
  }

  /** Not while nothing can be written: the mode goes back and forth as features are negotiated. */
  private tell(): void {
    const { mode } = this;
    if (this.runningRings === 0 || mode === this.toldMode) return;
    this.toldMode = mode;
    const until = mode === WRITE_THROUGH_UNTIL_FLUSH ? { until: "the driver's first flush" } : {};
    this.log?.info(until, mode === WRITE_THROUGH_OFF ? "write-through is off" : "write-through is on");
  }
}
