// A graphics card for two dimensions (virtio 1.4, 5.7): which queue is whose, and when a driver's life begins anew.
import * as spec from "../../../assembly/spec/virtio-gpu.ts";
import { VIRTIO_F_RING_RESET } from "../../../assembly/spec/virtqueue.ts";
import { Withdrawn } from "../../displays/display.ts";
import { close } from "../../linux/libc.ts";
import { type Log, SILENT } from "../../process/log.ts";
import { featureMask } from "../../protocol/feature-bits.ts";
import { VHOST_USER_GPU_SET_SOCKET } from "../../protocol/messages.ts";
import type { Chain, ConfigSpace, DeviceHost, DeviceQueue, QueueSpec, VirtioDevice } from "../device.ts";
import { COMMANDS } from "./control.ts";
import { moveCursor } from "./cursor.ts";
import { failureOf, Refused, readHeader, respond, respondFailure } from "./messages.ts";
import { FEATURE_NAMES, type GpuValues } from "./options.ts";
import { factsOf, resolutionCommand } from "./report.ts";
import { Scene } from "./scene.ts";

const CONTROL = 0;

export class GpuDevice implements VirtioDevice {
  readonly type = "gpu";
  readonly virtioId = spec.VIRTIO_ID_GPU;
  readonly features = featureMask([spec.VIRTIO_GPU_F_EDID]);
  readonly featureNames = FEATURE_NAMES;
  /** QEMU resets single queues itself, and passes the bit on. */
  readonly ignoredFeatures = featureMask([VIRTIO_F_RING_RESET]);
  readonly queues: readonly QueueSpec[] = [
    { name: "controlq", credit: "all", recover: "fail", fail: respondFailure },
    { name: "cursorq", credit: "all", recover: "fail", fail: respondFailure },
  ];
  readonly messages: NonNullable<VirtioDevice["messages"]> = new Map([
    [VHOST_USER_GPU_SET_SOCKET, { fds: 1, handle: (_, [fd]) => this.openDisplay(fd!) }],
  ]);
  readonly config: ConfigSpace;
  readonly commands: NonNullable<VirtioDevice["commands"]>;
  private readonly scene: Scene;
  private host: DeviceHost | undefined;

  constructor(private readonly values: GpuValues) {
    this.scene = new Scene(values, (reason) => this.log.warn({ reason }, "the front-end's display was left"));
    this.config = configOf(this.scene);
    this.commands = { resolution: resolutionCommand(this.scene, () => this.host?.configChanged()) };
  }

  static open(values: GpuValues): GpuDevice {
    return new GpuDevice(values);
  }

  get screens(): NonNullable<VirtioDevice["screens"]> {
    return this.scene.display.screens;
  }

  get watchedScreens(): NonNullable<VirtioDevice["watchedScreens"]> {
    return this.scene.display.watchedScreens;
  }

  get facts(): NonNullable<VirtioDevice["facts"]> {
    return factsOf(this.scene, this.values);
  }

  attach(host: DeviceHost): void {
    this.host = host;
  }

  /** 0n: a reset, or another front-end. */
  negotiated(features: bigint): void {
    if (features === 0n) this.scene.reset();
  }

  disconnected(): void {
    this.scene.reset();
    this.scene.display.close();
  }

  start(queue: DeviceQueue): void {
    if (queue.index === CONTROL) queue.serve((chain) => this.control(chain));
    else queue.serve((chain) => this.cursor(chain));
  }

  /** A front-end that waits for the ring may be the one that is asked: what has asked comes again. */
  stop({ index }: DeviceQueue): void {
    if (index === CONTROL) this.scene.display.withdraw();
  }

  close(): void {
    this.disconnected();
  }

  private get log(): Log {
    return this.host?.log ?? SILENT;
  }

  private openDisplay(fd: number): undefined {
    if (this.values.headless) close(fd);
    else this.scene.display.open(fd);
  }

  private async control(chain: Chain): Promise<void> {
    const header = readHeader(chain.in);
    try {
      const command = COMMANDS[header.type];
      if (command === undefined) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_UNSPEC);
      respond(chain, header, await command(this.scene, chain.in, this.host!.memory));
    } catch (error) {
      if (error instanceof Withdrawn) chain.park();
      else respond(chain, header, failureOf(error));
    }
  }

  private cursor(chain: Chain): void {
    const header = readHeader(chain.in);
    try {
      respond(chain, header, moveCursor(header.type, this.scene, chain.in));
    } catch (error) {
      respond(chain, header, failureOf(error));
    }
  }
}

function configOf({ screens }: Scene): ConfigSpace {
  return {
    byteLength: spec.GPU_CONFIG_SIZE,
    read() {
      const space = Buffer.alloc(spec.GPU_CONFIG_SIZE);
      space.writeUInt32LE(screens.events, spec.GPU_CONFIG_EVENTS_READ);
      space.writeUInt32LE(screens.count, spec.GPU_CONFIG_NUM_SCANOUTS);
      return space;
    },
    /** QEMU writes the whole space: of that, only events_clear is the driver's. */
    write(offset, bytes) {
      const space = Buffer.alloc(spec.GPU_CONFIG_SIZE);
      space.set(bytes, offset);
      screens.events &= ~space.readUInt32LE(spec.GPU_CONFIG_EVENTS_CLEAR);
    },
  };
}
