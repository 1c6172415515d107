// Keyboards, mice and other input devices for guests (virtio 1.4, 5.8): which queue is whose, and when a driver begins.
import { VIRTIO_ID_INPUT } from "../../../assembly/spec/virtio-input.ts";
import { EventStream } from "../../input/event-stream.ts";
import { BACKLOG, Groups } from "../../input/groups.ts";
import { Lights } from "../../input/lights.ts";
import { PluggedDevice } from "../../input/plugged-device.ts";
import { preset, withNames } from "../../input/presets.ts";
import { bitsOf, hasEvent, type InputDescription } from "../../linux/evdev.ts";
import { EV_KEY } from "../../linux/input-event-codes.ts";
import { type Log, SILENT } from "../../process/log.ts";
import type { Chain, DeviceHost, DeviceQueue, QueueSpec, VirtioDevice } from "../device.ts";
import { Outbox } from "../outbox.ts";
import { inputCommands } from "./commands.ts";
import { InputConfig } from "./config.ts";
import type { InputValues } from "./options.ts";

const STATUS_QUEUE = 1;

export class InputDevice implements VirtioDevice {
  readonly type = "input";
  readonly virtioId = VIRTIO_ID_INPUT;
  readonly queues: readonly QueueSpec[] = [
    { name: "eventq", credit: "asked", recover: "forget" },
    { name: "statusq", credit: "all", recover: "repeat" },
  ];
  readonly features = 0n;
  readonly config: InputConfig;
  readonly commands: NonNullable<VirtioDevice["commands"]>;
  private readonly outbox: Outbox;
  private readonly groups: Groups;
  private readonly lights: Lights;
  private log: Log = SILENT;

  constructor(
    private readonly description: InputDescription,
    private readonly hardware?: PluggedDevice,
    private readonly stream?: EventStream,
  ) {
    const log = () => this.log;
    this.outbox = new Outbox(BACKLOG, log, () => this.groups.catchUp());
    this.groups = new Groups(this.outbox, log);
    this.config = new InputConfig(description, () => this.begin());
    this.lights = new Lights(description, (event) => hardware?.write(event));
    this.commands = inputCommands(this.groups, description, this.lights);
  }

  /** Throws StartError. */
  static open({ evdevPath, noGrab, events, eventsFormat, ...values }: InputValues): InputDevice {
    const hardware = evdevPath === undefined ? undefined : PluggedDevice.open(evdevPath, !noGrab);
    const stream = events === undefined ? undefined : EventStream.open(events, eventsFormat);
    const description = withNames(hardware?.description ?? preset(values), values);
    return new InputDevice(description, hardware, stream);
  }

  attach({ log }: DeviceHost): void {
    this.log = log;
    this.stream?.pass(this.groups, (event) => hasEvent(this.description, event), log);
    this.hardware?.listen(this.groups, () => this.lights.tellAll(), log);
  }

  /** Not every front-end tells of a reset, after which a driver asks what device this is: then, too, nothing of before counts. */
  negotiated(features: bigint): void {
    if (features === 0n) this.begin();
  }

  /** Any key may be down for a driver that another process has served. */
  inherited(): void {
    this.groups.begin(bitsOf(this.description.codes.get(EV_KEY) ?? new Uint8Array()));
  }

  start(queue: DeviceQueue): void {
    if (queue.index === STATUS_QUEUE) {
      this.lights.run(true);
      queue.serve((chain) => this.obey(chain));
    } else {
      this.outbox.start(queue);
      this.groups.isTaken = true;
    }
  }

  stop(queue: DeviceQueue): void {
    if (queue.index === STATUS_QUEUE) this.lights.run(false);
    else {
      this.groups.isTaken = false;
      this.outbox.stop();
    }
  }

  close(): void {
    this.stream?.close();
    this.hardware?.close();
  }

  private begin(): void {
    this.groups.begin();
    this.lights.reset();
  }

  /** Lights and sounds. Linux sends each EV_MSC event back, which a device would send again. */
  private obey(chain: Chain): void {
    const event = { type: chain.in.u16(), code: chain.in.u16(), value: chain.in.u32() | 0 };
    chain.use(0);
    this.lights.obey(event);
  }
}
