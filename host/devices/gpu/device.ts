// A graphics card for two dimensions, and for three with a renderer (virtio 1.4, 5.7): which queue is whose, and when a driver's life begins anew.
import * as spec from "../../../assembly/spec/virtio-gpu.ts";
import { VIRTIO_F_RING_RESET } from "../../../assembly/spec/virtqueue.ts";
import { close } from "../../linux/libc.ts";
import { type Log, SILENT } from "../../process/log.ts";
import { featureMask, hasFeature } from "../../protocol/feature-bits.ts";
import { VHOST_USER_GPU_SET_SOCKET } from "../../protocol/messages.ts";
import type { Chain, ConfigSpace, DeviceHost, DeviceQueue, QueueSpec, VirtioDevice } from "../device.ts";
import { COMMANDS } from "./control.ts";
import type { COMMANDS_3D } from "./control-3d.ts";
import { type Call, ControlQueue } from "./control-queue.ts";
import { moveCursor } from "./cursor.ts";
import { failureOf, Refused, type Response, readHeader, respond, respondFailure } from "./messages.ts";
import { FEATURE_NAMES, type GpuValues, isFor3d, rendererChoice } from "./options.ts";
import type { Rendering } from "./rendering.ts";
import { factsOf, resolutionCommand } from "./report.ts";
import { Scene } from "./scene.ts";

const CONTROL = 0;

export interface Drawing {
  readonly rendering: Rendering;
  readonly commands: typeof COMMANDS_3D;
}

export class GpuDevice implements VirtioDevice {
  readonly type = "gpu";
  readonly virtioId = spec.VIRTIO_ID_GPU;
  readonly features: bigint;
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
  private readonly control = new ControlQueue((call) => this.perform(call));
  private host: DeviceHost | undefined;
  /** Whether the driver has accepted three dimensions. */
  private is3d = false;

  /** `drawing`: in three dimensions. It is closed by the device. */
  constructor(
    private readonly values: GpuValues,
    private readonly drawing?: Drawing,
  ) {
    const { VIRTIO_GPU_F_VIRGL: VIRGL, VIRTIO_GPU_F_EDID: EDID } = spec;
    this.features = featureMask(drawing ? [VIRGL, EDID] : [EDID]);
    this.scene = new Scene(values, (reason) => this.log.warn({ reason }, "the front-end's display was left"));
    this.config = configOf(this.scene);
    if (drawing) this.begin(drawing);
    this.commands = { resolution: resolutionCommand(this.scene, () => this.host?.configChanged()) };
  }

  /** Throws StartError where three dimensions are asked for and there are none. */
  static async open(values: GpuValues): Promise<GpuDevice> {
    if (!isFor3d(values)) return new GpuDevice(values);
    const [{ Rendering }, { COMMANDS_3D }] = await Promise.all([
      import("./rendering.ts"),
      import("./control-3d.ts"),
    ]);
    const rendering = await Rendering.open(rendererChoice(values));
    return new GpuDevice(values, { rendering, commands: COMMANDS_3D });
  }

  get screens(): NonNullable<VirtioDevice["screens"]> {
    return this.scene.display.screens;
  }

  get watchedScreens(): NonNullable<VirtioDevice["watchedScreens"]> {
    return this.scene.display.watchedScreens;
  }

  get facts(): NonNullable<VirtioDevice["facts"]> {
    return factsOf(this.scene, this.values, this.drawing?.rendering);
  }

  attach(host: DeviceHost): void {
    this.host = host;
    const { rendering } = this.drawing ?? {};
    if (rendering) rendering.log = host.log;
    rendering?.useMemory(host.memory);
  }

  /** 0n: a reset, or another front-end. */
  negotiated(features: bigint): void {
    this.is3d = hasFeature(features, spec.VIRTIO_GPU_F_VIRGL);
    if (features === 0n) this.forget();
  }

  disconnected(): void {
    this.forget();
    this.drawing?.rendering.forgetMemory();
    this.scene.display.close();
  }

  start(queue: DeviceQueue): void {
    if (queue.index === CONTROL) this.control.start(queue, this.drawing ? queue.size : 1);
    else queue.serve((chain) => this.cursor(chain));
  }

  /** A front-end that waits for the ring may be the one that is asked: what has asked comes again. */
  async stop({ index }: DeviceQueue): Promise<void> {
    if (index !== CONTROL) return;
    this.scene.display.withdraw();
    await this.control.stop();
  }

  close(): void {
    this.disconnected();
    this.drawing?.rendering.close();
  }

  private begin({ rendering }: Drawing): void {
    this.scene.capsets = rendering.capsets;
    rendering.passed = (fence) => {
      if (fence === undefined) this.control.passAll();
      else this.control.passed(fence);
    };
  }

  /** Nothing of a driver's counts any more. */
  private forget(): void {
    this.scene.reset();
    this.drawing?.rendering.reset();
  }

  private get log(): Log {
    return this.host?.log ?? SILENT;
  }

  private openDisplay(fd: number): undefined {
    if (this.values.headless) close(fd);
    else this.scene.display.open(fd);
  }

  private perform(call: Call): Response | Promise<Response> {
    const { type } = call.header;
    const { rendering, commands } = (this.is3d && this.drawing) || {};
    const drawing = commands?.[type];
    if (rendering && drawing) return drawing(rendering, this.scene, call);
    const command = COMMANDS[type];
    if (command === undefined) throw new Refused(spec.VIRTIO_GPU_RESP_ERR_UNSPEC);
    return command(this.scene, call.request, this.host!.memory);
  }

  private async cursor(chain: Chain): Promise<void> {
    const header = readHeader(chain.in);
    try {
      respond(chain, header, await moveCursor(header.type, this.scene, chain.in));
    } catch (error) {
      respond(chain, header, failureOf(error));
    }
  }
}

function configOf(scene: Scene): ConfigSpace {
  const { screens } = scene;
  return {
    byteLength: spec.GPU_CONFIG_SIZE,
    read() {
      const space = Buffer.alloc(spec.GPU_CONFIG_SIZE);
      space.writeUInt32LE(screens.events, spec.GPU_CONFIG_EVENTS_READ);
      space.writeUInt32LE(screens.count, spec.GPU_CONFIG_NUM_SCANOUTS);
      space.writeUInt32LE(scene.capsets.length, spec.GPU_CONFIG_NUM_CAPSETS);
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
