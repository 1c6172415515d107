// GPIO lines for guests (virtio 1.4, 5.18): which message is for which line, and what is asked of all of them together.
import * as spec from "../../../assembly/spec/virtio-gpio.ts";
import { reasonOf } from "../../errors.ts";
import type { Listener } from "../../lines/interrupt.ts";
import { Line } from "../../lines/line.ts";
import { Pins } from "../../lines/pins.ts";
import { type Log, SILENT } from "../../process/log.ts";
import { featureMask, hasFeature } from "../../protocol/feature-bits.ts";
import { Turns } from "../deadline.ts";
import type {
  Chain,
  DeviceCommand,
  DeviceFacts,
  DeviceHost,
  DeviceQueue,
  QueueSpec,
  VirtioDevice,
} from "../device.ts";
import { giveBack, perform, Refused, respond } from "./messages.ts";
import { FEATURE_NAMES, type GpioValues } from "./options.ts";

const REQUESTS = 0;

/** Linux gives a request up after 1 s. */
const DEADLINE_MS = 500;

/** The driver's buffers, which wait for an interrupt. */
interface Armed extends Listener {
  readonly chain: Chain;
}

export class GpioDevice implements VirtioDevice {
  readonly type = "gpio";
  readonly virtioId = spec.VIRTIO_ID_GPIO;
  readonly features = featureMask([spec.VIRTIO_GPIO_F_IRQ]);
  readonly featureNames = FEATURE_NAMES;
  readonly inflight = true;
  readonly queues: readonly QueueSpec[] = [
    { name: "requestq", credit: "all", recover: "repeat", fail: (chain) => respond(chain) },
    { name: "eventq", credit: "asked", recover: "forget" },
  ];
  readonly config = { byteLength: spec.GPIO_CONFIG_SIZE, read: () => this.space };
  readonly commands: Readonly<Record<string, DeviceCommand>>;
  private readonly lines: readonly Line<Armed>[];
  private readonly names: Buffer;
  private readonly space = Buffer.alloc(spec.GPIO_CONFIG_SIZE);
  private hasInterrupts = false;
  private log: Log = SILENT;

  constructor(private readonly pins: Pins) {
    this.lines = pins.all.map((pin) => new Line<Armed>(pin, new Turns(DEADLINE_MS)));
    this.names = pins.nameBlock;
    this.space.writeUInt16LE(this.lines.length, spec.GPIO_CONFIG_NGPIO);
    this.space.writeUInt32LE(this.names.length, spec.GPIO_CONFIG_NAMES_SIZE);
    const lines: DeviceCommand = { usage: "", help: "what each line is and has", run: () => this.shown };
    const set: DeviceCommand = {
      usage: "LINE 0|1",
      help: "the level that the guest reads",
      run: (args) => void pins.give(args),
    };
    this.commands = pins.areEmulated ? { lines, set } : { lines };
  }

  /** Throws StartError. */
  static open({ deviceList, lines = [] }: GpioValues): GpioDevice {
    return new GpioDevice(deviceList === undefined ? Pins.emulate(lines) : Pins.ofChip(deviceList));
  }

  get facts(): DeviceFacts {
    const { chip } = this.pins;
    return {
      log: { ...chip, lines: this.lines.length },
      status: { ...(chip && { chip }), lines: this.shown },
      labels: {},
      gauges: [],
      watched: this.shown,
    };
  }

  attach({ log }: DeviceHost): void {
    this.log = log;
  }

  connected(): void {
    this.reset();
  }

  negotiated(features: bigint): void {
    this.hasInterrupts = hasFeature(features, spec.VIRTIO_GPIO_F_IRQ);
  }

  inherited(): void {
    for (const line of this.lines) line.inherit();
  }

  reset(): void {
    for (const line of this.lines) line.reset();
  }

  start(queue: DeviceQueue): void {
    if (queue.index === REQUESTS) {
      queue.serve((chain) => this.answer(chain), { concurrency: queue.size });
      return;
    }
    queue.onAvailable(() => this.unmask(queue));
    this.unmask(queue);
  }

  /** What is armed comes again. */
  stop({ index }: DeviceQueue): void {
    if (index !== REQUESTS) for (const line of this.lines) line.mask()?.chain.park();
  }

  async close(): Promise<void> {
    await Promise.all(this.lines.map((line) => line.reset()));
    this.pins.close();
  }

  private async answer(chain: Chain): Promise<void> {
    const message = chain.in.u16();
    const gpio = chain.in.u16();
    const value = chain.in.u32();
    if (message === spec.VIRTIO_GPIO_MSG_GET_LINE_NAMES && this.names.length > 0) {
      chain.out.bytes(Buffer.concat([Buffer.of(spec.VIRTIO_GPIO_STATUS_OK), this.names]));
      chain.use();
      return;
    }
    const answer = await this.ask(message, gpio, value).catch((error) => this.tell(gpio, error));
    respond(chain, answer);
  }

  private async ask(message: number, gpio: number, value: number): Promise<number> {
    const line = this.lines[gpio];
    const isForInterrupts = message === spec.VIRTIO_GPIO_MSG_SET_IRQ_TYPE;
    if (line === undefined || (isForInterrupts && !this.hasInterrupts)) throw new Refused();
    return perform(line, message, value);
  }

  private unmask(queue: DeviceQueue): void {
    for (let chain = queue.tryTake(); chain; chain = queue.tryTake()) {
      if (chain.out.left === 0) chain.use();
      else if (!this.arm(chain)) giveBack(chain, false);
    }
  }

  private arm(chain: Chain): boolean {
    if (chain.in.left < spec.GPIO_IRQ_REQUEST_SIZE) return false;
    const line = this.lines[chain.in.u16()];
    return line?.unmask({ chain, hear: (isInterrupt) => giveBack(chain, isInterrupt) }) ?? false;
  }

  private tell(gpio: number, error: unknown): undefined {
    if (error instanceof Refused) return;
    const line = this.pins.nameOf(gpio);
    this.log.warn({ line, reason: reasonOf(error) }, "the host's line has failed a request");
  }

  /** By name, those of which there is something to say. */
  private get shown(): Record<string, string> {
    const all = this.lines.map(({ shown }, gpio) => [this.pins.nameOf(gpio), shown] as const);
    return Object.fromEntries(all.filter(([, shown]) => shown !== ""));
  }
}
