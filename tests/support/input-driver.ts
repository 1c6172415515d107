// The driver of an input device at our own front-end: what it hears, and what it asks the config space.
import * as spec from "../../assembly/spec/virtio-input.ts";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import type { Virtqueue } from "../../host/front-end/virtqueue.ts";
import { decodeEvents, type InputEvent } from "../../host/linux/evdev.ts";
import { EV_SYN, SYN_REPORT } from "../../host/linux/input-event-codes.ts";
import { ChainDriver, connectDevice } from "./chain-driver.ts";

/** Only what fails takes so long. */
const PATIENCE_MS = 60_000;

export const EVENT_QUEUE = 0;
export const STATUS_QUEUE = 1;

/** A front-end whose driver has looked at the device, as each does when it begins. */
export function connectInput(
  socketPath: string,
  { queueSize = 64, packed = false, queues = 2 } = {},
): Promise<FrontEnd> {
  return connectDevice(socketPath, { queues, queueSize, packed, configSize: spec.INPUT_CONFIG_SIZE });
}

export class InputDriver {
  private readonly status: ChainDriver;
  /** Where buffers are that are not in the ring, and those that are, by token. */
  private readonly free: number[] = [];
  private readonly posted = new Map<number, number>();
  private readonly heard: InputEvent[] = [];

  constructor(
    private readonly frontEnd: FrontEnd,
    /** How many buffers it has in the ring: all that there is room for if left out. */
    depth = frontEnd.queues[EVENT_QUEUE]!.size,
  ) {
    this.status = new ChainDriver(frontEnd, STATUS_QUEUE);
    for (let i = 0; i < depth; i++) this.free.push(frontEnd.memory.allocate(spec.INPUT_EVENT_SIZE));
  }

  /** The next events, as numbers. */
  async next(count: number): Promise<number[][]> {
    while (this.heard.length < count) await this.hear();
    return this.heard.splice(0, count).map(({ type, code, value }) => [type, code, value]);
  }

  /** Up to the next SYN_REPORT, which is left out. */
  async group(): Promise<number[][]> {
    for (;;) {
      const end = this.heard.findIndex(({ type, code }) => type === EV_SYN && code === SYN_REPORT);
      if (end !== -1) return (await this.next(end + 1)).slice(0, -1);
      await this.hear();
    }
  }

  /** Offers buffers, and looks once. */
  async hasHeard(): Promise<boolean> {
    this.post();
    this.take();
    return this.heard.length > 0;
  }

  /** What the status queue gets. Resolves with the used length. */
  async tell(type: number, code: number, value: number): Promise<number> {
    const bytes = Buffer.alloc(spec.INPUT_EVENT_SIZE);
    bytes.writeUInt16LE(type, 0);
    bytes.writeUInt16LE(code, 2);
    bytes.writeInt32LE(value, 4);
    return (await this.status.used(this.status.post([bytes], []))).length;
  }

  /** What the config space answers. `isWhole`: written as QEMU writes it, all for one byte. */
  async ask(select: number, subsel = 0, isWhole = true): Promise<Buffer> {
    for (const [at, value] of [
      [spec.INPUT_CONFIG_SELECT, select],
      [spec.INPUT_CONFIG_SUBSEL, subsel],
    ] as const) {
      const space = Buffer.from((await this.frontEnd.getConfig(0, spec.INPUT_CONFIG_SIZE))!);
      space[at] = value;
      const part = isWhole ? { offset: 0, bytes: space } : { offset: at, bytes: Buffer.of(value) };
      if ((await this.frontEnd.setConfig({ flags: 0, ...part })) !== 0n)
        throw new Error(`select ${select} was refused`);
    }
    const space = (await this.frontEnd.getConfig(0, spec.INPUT_CONFIG_SIZE))!;
    const start = spec.INPUT_CONFIG_ANSWER;
    return space.subarray(start, start + space[spec.INPUT_CONFIG_LENGTH]!);
  }

  private get queue(): Virtqueue {
    return this.frontEnd.queues[EVENT_QUEUE]!;
  }

  private post(): void {
    if (this.free.length === 0) return;
    for (const gpa of this.free.splice(0))
      this.posted.set(this.queue.add([{ gpa, length: spec.INPUT_EVENT_SIZE, writable: true }]), gpa);
    this.queue.publish();
    this.queue.kick();
  }

  private take(): void {
    for (const { token, length } of this.queue.poll()) {
      const gpa = this.posted.get(token)!;
      this.posted.delete(token);
      this.free.push(gpa);
      this.heard.push(...decodeEvents(this.frontEnd.memory.read(gpa, length), spec.INPUT_EVENT_SIZE));
    }
  }

  private async hear(): Promise<void> {
    this.post();
    if (!(await this.queue.wait(PATIENCE_MS))) throw new Error("the device says nothing");
    this.take();
  }
}
