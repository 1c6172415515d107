// The program vringd-gpu: what it says of itself, and its options.
import * as spec from "../../../assembly/spec/virtio-gpu.ts";
import { screenSize } from "../../displays/size.ts";
import { flagOf, option, optionList, toggle, UsageError, type ValuesOf } from "../../options/option.ts";
import { byteSize, oneOf, path } from "../../options/types.ts";
import { deviceProgram } from "../program.ts";

export const FEATURE_NAMES = {
  [spec.VIRTIO_GPU_F_VIRGL]: "VIRTIO_GPU_F_VIRGL",
  [spec.VIRTIO_GPU_F_EDID]: "VIRTIO_GPU_F_EDID",
};

const MODES = ["2d", "null", "virglrenderer", "gfxstream"] as const;

export const GPU_OPTIONS = {
  gpuMode: option({
    type: oneOf(MODES),
    value: "MODE",
    help: '"2d" keeps and shows what the guest draws; "null" answers its driver and keeps no pixel; virglrenderer and gfxstream are not built in this version',
    default: "2d",
  }),
  resolution: optionList({
    type: screenSize,
    value: "WxH",
    help: "the size of a screen, where no front-end says what it shows: once for each screen (default: 1280x800)",
  }),
  headless: toggle("show the front-end nothing: vringd ctl NAME screenshot sees the screens"),
  maxMemory: option({
    type: byteSize(1 << 20, 2 ** 36),
    value: "BYTES",
    help: "what the guest's pictures may take of this machine's memory",
    default: 256 << 20,
  }),
  renderNode: option({
    type: path,
    value: "PATH",
    help: "a device that draws in three dimensions: not built in this version",
  }),
  virgl: toggle("draw in three dimensions: not built in this version"),
};

export type GpuValues = ValuesOf<typeof GPU_OPTIONS>;

function check(values: GpuValues): void {
  const { gpuMode, resolution } = values;
  const absent = (["virgl", "renderNode"] as const).find((name) => values[name]);
  const flag = absent ? flagOf(absent) : `--gpu-mode=${gpuMode}`;
  if (absent || (gpuMode !== "2d" && gpuMode !== "null"))
    throw new UsageError(`${flag} is not built in this version: leave it out, for two dimensions`);
  if (resolution.length > spec.VIRTIO_GPU_MAX_SCANOUTS)
    throw new UsageError(`--resolution is given ${resolution.length} times: a guest has up to 16 screens`);
}

export const program = deviceProgram({
  name: "vringd-gpu",
  description: "Gives a virtual machine a graphics card for two dimensions, over vhost-user.",
  capabilities: { type: "gpu", features: [] },
  options: GPU_OPTIONS,
  traits: {
    hasQueues: (count) => count === 2,
    featureNames: FEATURE_NAMES,
    configBytes: spec.GPU_CONFIG_SIZE,
    // So many screens as there may be, and no event that nobody knows.
    isConfig: (bytes) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const scanouts = view.getUint32(spec.GPU_CONFIG_NUM_SCANOUTS, true);
      const events = view.getUint32(spec.GPU_CONFIG_EVENTS_READ, true);
      return scanouts >= 1 && scanouts <= spec.VIRTIO_GPU_MAX_SCANOUTS && events <= 1;
    },
  },
  async open(values) {
    check(values);
    return (await import("./device.ts")).GpuDevice.open(values);
  },
});
