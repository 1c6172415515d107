// The program vringd-gpio, and the driver of its lines: messages and interrupts as the specification has them.
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import * as spec from "../../assembly/spec/virtio-gpio.ts";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import { ChainDriver, connectDevice, type Posted } from "./chain-driver.ts";
import { until } from "./until.ts";
import { PROGRAM, Vringd, type VringdOptions } from "./vringd.ts";

export const GPIO_PROGRAM = [process.execPath, join(dirname(PROGRAM), "vringd-gpio.mjs")];

const REQUESTS = 0;
const EVENTS = 1;

/** With emulated lines of these names. */
export function startGpio(lines: readonly string[], options: VringdOptions = {}): Promise<Vringd> {
  return Vringd.start({ program: GPIO_PROGRAM, deviceArgs: () => [`--lines=${lines.join()}`], ...options });
}

export interface Response {
  status: number;
  value: number;
}

/** Linux gives up after a second; a busy machine is no reason for a test to. */
const ANSWER_MS = 60_000;

const RETRY_MS = 100;

export class GpioDriver {
  /** How often a message is sent until it does not fail: on an emulated processor a chip's line may be late without hanging. */
  tries = 1;
  private readonly requests: ChainDriver;
  private readonly events: ChainDriver;

  constructor(readonly frontEnd: FrontEnd) {
    this.requests = new ChainDriver(frontEnd, REQUESTS);
    this.events = new ChainDriver(frontEnd, EVENTS);
  }

  static async connect(
    socketPath: string,
    options: Parameters<typeof connectDevice>[1] = {},
  ): Promise<GpioDriver> {
    const bits = [spec.VIRTIO_GPIO_F_IRQ];
    const configSize = spec.GPIO_CONFIG_SIZE;
    return new GpioDriver(
      await connectDevice(socketPath, { queues: 2, queueSize: 16, bits, configSize, ...options }),
    );
  }

  /** Whatever comes back, with as much room as is said. */
  async raw(message: number, gpio: number, value: number, room: number): Promise<Buffer> {
    const { bytes } = await this.requests.used(this.post(message, gpio, value, room), ANSWER_MS);
    return bytes;
  }

  async ask(message: number, gpio: number, value = 0): Promise<Response> {
    const bytes = await this.raw(message, gpio, value, 2);
    if (bytes.length !== 2) throw new Error(`a response of ${bytes.length} bytes`);
    return { status: bytes[0]!, value: bytes[1]! };
  }

  /** The value; throws for a failure. */
  async get(message: number, gpio: number, value = 0): Promise<number> {
    for (let i = 0; i < this.tries; i++) {
      const response = await this.ask(message, gpio, value);
      if (response.status === spec.VIRTIO_GPIO_STATUS_OK) return response.value;
      await sleep(RETRY_MS);
    }
    throw new Error(`message ${message} has failed for line ${gpio}`);
  }

  async setDirection(gpio: number, direction: number): Promise<void> {
    await this.get(spec.VIRTIO_GPIO_MSG_SET_DIRECTION, gpio, direction);
  }

  getDirection(gpio: number): Promise<number> {
    return this.get(spec.VIRTIO_GPIO_MSG_GET_DIRECTION, gpio);
  }

  async setValue(gpio: number, value: number): Promise<void> {
    await this.get(spec.VIRTIO_GPIO_MSG_SET_VALUE, gpio, value);
  }

  getValue(gpio: number): Promise<number> {
    return this.get(spec.VIRTIO_GPIO_MSG_GET_VALUE, gpio);
  }

  async setIrqType(gpio: number, type: number): Promise<void> {
    await this.get(spec.VIRTIO_GPIO_MSG_SET_IRQ_TYPE, gpio, type);
  }

  /** As an input, with this interrupt. */
  async enable(gpio: number, type: number): Promise<void> {
    await this.setDirection(gpio, spec.VIRTIO_GPIO_DIRECTION_IN);
    await this.setIrqType(gpio, type);
  }

  post(message: number, gpio: number, value: number, room: number): Posted {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt16LE(message, 0);
    bytes.writeUInt16LE(gpio, 2);
    bytes.writeUInt32LE(value, 4);
    return this.requests.post([bytes], [room]);
  }

  /** Unmasks the interrupt. */
  arm(gpio: number): Posted {
    const bytes = Buffer.alloc(spec.GPIO_IRQ_REQUEST_SIZE);
    bytes.writeUInt16LE(gpio);
    return this.events.post([bytes], [1]);
  }

  /** What became of it: the one byte that the device must have written. */
  async heard(armed: Posted): Promise<number> {
    const { length, bytes } = await this.events.used(armed, ANSWER_MS);
    if (length !== 1) throw new Error(`an interrupt of ${length} bytes`);
    return bytes[0]!;
  }

  /** How many interrupts are unmasked. */
  get armedCount(): number {
    return this.events.outstanding;
  }

  /**
   * Answers that come after this was asked have all been given: the device has done what it was told before. Both queues are served
   * by one thread.
   */
  async settle(): Promise<void> {
    await until(() => this.requests.outstanding === 0, "all requests are answered", ANSWER_MS);
    for (let i = 0; i < 3; i++) await this.ask(spec.VIRTIO_GPIO_MSG_GET_DIRECTION, 0);
  }

  /** As a pause of the guest does it: both rings stop, and go on where they were. */
  async pause(meanwhile: () => void | Promise<void> = () => {}): Promise<void> {
    const bases = [await this.frontEnd.stopQueue(REQUESTS), await this.frontEnd.stopQueue(EVENTS)];
    await meanwhile();
    for (const index of [REQUESTS, EVENTS]) await this.frontEnd.startQueue(index, bases[index]!);
  }

  close(): void {
    this.frontEnd.close();
  }
}
