// Random guests, front-ends and host sides for one device object in this process: what a seed says is played again exactly, but for
// the event loop's own order. What a device may do with chains is held to by the rings (fake-ring.ts).
import assert from "node:assert/strict";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { ConfigSpace, DeviceHost, VirtioDevice } from "../../../host/devices/device.ts";
import type { AnyDevice } from "../../../host/devices/engine-device.ts";
import { isEngineDevice } from "../../../host/devices/engine-device.ts";
import { ProtocolError } from "../../../host/errors.ts";
import { close } from "../../../host/linux/libc.ts";
import { send, unixPair } from "../../../host/linux/unix-socket.ts";
import type { Log } from "../../../host/process/log.ts";
import { readConfig, writeConfig } from "../../../host/session/config-space.ts";
import type { Random } from "../../support/random.ts";
import { likelyBytes } from "../../support/ring-torment.ts";
import { until } from "../../support/until.ts";
import { FakeRing } from "./fake-ring.ts";
import { GuestChain } from "./guest-chain.ts";

const RING_SIZES = [4, 8, 16, 128];
const CONFIG_WRITABLE = 0;
const CONFIG_MIGRATION = 1;
/** From address 0 on. */
const GUEST_BYTES = 1 << 20;
/** Sentences of a log are constants, so they are few. */
const SENTENCES_MAX = 24;
const ENDS_MAX = 3;
/** What a GPU's front-end answers to what it is asked first: it has EDIDs. */
const GREETING = Buffer.from("01000000040000000800000001000000" + "00000000", "hex");
/** For what a device must answer in any case. */
const ANSWER_MS = 20_000;

type Step = () => void | Promise<void>;

export interface FuzzTotals {
  steps: number;
  chains: number;
  used: number;
  failed: number;
}

export class DeviceFuzz {
  readonly rings: FakeRing[];
  private readonly sentences = new Set<string>();
  private readonly guest = new Uint8Array(GUEST_BYTES);
  /** Of sockets that the device has been given. */
  private readonly ends: number[] = [];
  private chains = 0;
  private steps = 0;

  constructor(
    private readonly device: AnyDevice,
    private readonly random: Random,
    /** What its driver writes for it to read. */
    private readonly likely = likelyBytes,
  ) {
    // A disk's chains are taken apart by the core: its own fuzzer has them.
    this.rings = isEngineDevice(device) ? [] : this.ringsOf(device);
    if (!isEngineDevice(device)) device.attach?.(this.host);
    this.newFrontEnd();
  }

  get totals(): FuzzTotals {
    const sum = (count: (ring: FakeRing) => number) => this.rings.reduce((all, ring) => all + count(ring), 0);
    const { steps, chains } = this;
    return { steps, chains, used: sum(({ used }) => used), failed: sum(({ failed }) => failed) };
  }

  /** Throws where the device does what it must not. */
  async play(steps: number): Promise<void> {
    for (let i = 0; i < steps; i++) await this.step();
    this.throwFault();
  }

  /** One step, again and again, and then an empty ring: what is kept of it shows then. */
  async flood(name: StepName, times: number): Promise<void> {
    for (const ring of this.rings) ring.start();
    for (let i = 0; i < times; i++) {
      this.steps++;
      await this.do[name]();
      if (i % 32 === 0) await nextTurn();
    }
    await this.stopAll();
    this.throwFault();
    for (const ring of this.rings) ring.clear();
  }

  private throwFault(): void {
    for (const ring of this.rings) ring.throwFault();
  }

  private async step(): Promise<void> {
    this.steps++;
    await this.do[this.random.pick(WEIGHTED)]();
  }

  /**
   * What became of the device: each ring stops, starts anew, and answers what any device answers. Whoever never reads at the host
   * side has left: until then a device may hold what it has for them.
   */
  async isStillHonest(): Promise<void> {
    await this.stopAll();
    this.newFrontEnd();
    for (const ring of this.rings) {
      ring.clear();
      ring.start();
      const chain = GuestChain.honest(`an honest chain of queue ${ring.index}`);
      assert.ok(ring.offer(chain));
      if (ring.takesAll) await until(() => chain.answers === 1, `${chain.name} is answered`, ANSWER_MS);
    }
    await this.stopAll();
    this.throwFault();
    assert.ok(this.sentences.size <= SENTENCES_MAX, `kinds of log lines: ${[...this.sentences].join("; ")}`);
  }

  private readonly do = {
    offer: () => this.offer(),
    offerMany: () => {
      for (let i = 0; i < 40; i++) this.offer();
    },
    turn: () => nextTurn(),
    turns: async () => {
      for (let i = 0; i < 10; i++) await nextTurn();
    },
    startOrStop: async () => {
      const ring = this.pickRing();
      if (ring?.isRunning) await ring.stop();
      else if (ring) this.start(ring);
    },
    renew: async () => {
      const ring = this.pickRing();
      await ring?.stop();
      ring?.clear();
      if (ring) this.start(ring);
    },
    change: () => {
      for (const ring of this.rings) for (const chain of ring.heldChains) chain.change(this.random);
    },
    negotiate: () => this.device.negotiated?.(this.anyFeatures()),
    inherited: () => this.device.inherited?.(),
    readConfig: () => this.withConfig((config) => this.readAnything(config)),
    writeConfig: () => this.withConfig((config) => this.writeAnything(config)),
    writeWholeConfig: () => this.withConfig((config) => this.writeWhole(config)),
    message: () => this.sendOwn(),
    reset: async () => {
      await this.stopAll();
      for (const ring of this.rings) ring.clear();
      this.device.reset?.();
      this.device.negotiated?.(0n);
    },
    frontEnd: async () => {
      await this.stopAll();
      for (const ring of this.rings) ring.clear();
      this.device.disconnected?.();
      this.newFrontEnd();
    },
  } satisfies Record<string, Step>;

  /** A request of the device's own that brings a socket, whose other end says anything, and goes at once or is never read. */
  private async sendOwn(): Promise<void> {
    const own = [...(this.device.messages?.values() ?? [])].filter(({ fds }) => fds === 1);
    if (own.length === 0) return;
    const [ours, theirs] = unixPair();
    send(ours, this.random.pick([Buffer.alloc(0), this.likely(this.random, 64), GREETING]));
    await this.random.pick(own).handle(this.likely(this.random, 8), [theirs]);
    this.ends.push(ours);
    if (this.random.below(3) === 0 || this.ends.length > ENDS_MAX) close(this.ends.shift()!);
  }

  /** Lets go of all that this holds. */
  close(): void {
    for (const fd of this.ends.splice(0)) close(fd);
  }

  private offer(): void {
    this.pickRing()?.offer(this.anyChain("chain"));
  }

  private start(ring: FakeRing): void {
    const count = this.random.below(3) === 0 ? this.random.below(4) : 0;
    ring.start(Array.from({ length: count }, () => this.anyChain("leftover")));
  }

  private anyChain(what: string): GuestChain {
    return GuestChain.random(`${what} ${this.chains++}`, this.random, this.likely);
  }

  private async stopAll(): Promise<void> {
    // As a session does.
    await Promise.all(this.rings.map((ring) => ring.stop()));
  }

  private newFrontEnd(): void {
    this.device.connected?.();
    this.device.negotiated?.(0n);
    this.device.negotiated?.(this.device.features);
  }

  private ringsOf(device: VirtioDevice): FakeRing[] {
    return device.queues.map(
      (_, index) => new FakeRing(device, index, this.random.pick(RING_SIZES), this.log),
    );
  }

  private pickRing(): FakeRing | undefined {
    return this.rings.length === 0 ? undefined : this.random.pick(this.rings);
  }

  /** Only what was offered comes from a driver; bits of the specification's own parts come with it. */
  private anyFeatures(): bigint {
    const any = this.random.bytes(8).readBigUInt64LE();
    return this.random.pick([0n, this.device.features, this.device.features & any]) | (1n << 32n);
  }

  private withConfig(act: (config: ConfigSpace) => void): void {
    const { config } = this.device;
    if (config === undefined) return;
    try {
      act(config);
    } catch (error) {
      // What the front-end would be told.
      if (!(error instanceof ProtocolError)) throw error;
    }
  }

  private readAnything(config: ConfigSpace): void {
    const offset = this.random.below(300);
    const byteLength = this.random.below(257);
    assert.equal(readConfig(config, offset, byteLength).length, byteLength);
  }

  private writeAnything(config: ConfigSpace): void {
    const offset = this.random.below(config.byteLength + 2);
    const bytes = likelyBytes(this.random, this.random.pick([1, 1, 2, 4, 8]));
    writeConfig(
      config,
      offset,
      bytes,
      this.random.pick([CONFIG_WRITABLE, CONFIG_WRITABLE, CONFIG_MIGRATION]),
    );
  }

  private writeWhole(config: ConfigSpace): void {
    const space = Buffer.from(config.read());
    space[this.random.below(space.length)] = this.random.below(256);
    writeConfig(config, 0, space, this.random.pick([CONFIG_WRITABLE, CONFIG_MIGRATION]));
  }

  private get log(): Log {
    const keep = (first: object | string, sentence?: string) => {
      this.sentences.add(typeof first === "string" ? first : sentence!);
    };
    return { error: keep, warn: keep, info: keep, debug: keep };
  }

  private get host(): DeviceHost {
    const memory = {
      buffers: (gpa: bigint, byteLength: number): Uint8Array[] => {
        if (gpa + BigInt(byteLength) <= GUEST_BYTES)
          return [this.guest.subarray(Number(gpa), Number(gpa) + byteLength)];
        throw new RangeError(`the guest has no memory at 0x${gpa.toString(16)}`);
      },
      files: () => [],
      onChange: () => {},
    };
    return { memory, log: this.log, configChanged: () => {} };
  }
}

export type StepName = keyof DeviceFuzz["do"];

const WEIGHTS: Readonly<Record<StepName, number>> = {
  offer: 30,
  offerMany: 2,
  turn: 20,
  turns: 5,
  startOrStop: 8,
  renew: 2,
  change: 4,
  negotiate: 2,
  inherited: 1,
  readConfig: 3,
  writeConfig: 5,
  writeWholeConfig: 2,
  message: 2,
  reset: 1,
  frontEnd: 1,
};
const WEIGHTED = (Object.keys(WEIGHTS) as StepName[]).flatMap((name) =>
  Array<StepName>(WEIGHTS[name]).fill(name),
);
