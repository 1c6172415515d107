// The program vringd-gpu: what it says of itself, and its options.
import * as spec from "../../../assembly/spec/virtio-gpu.ts";
import { screenSize } from "../../displays/size.ts";
import {
  flagOf,
  inGroup,
  option,
  optionList,
  toggle,
  UsageError,
  type ValuesOf,
} from "../../options/option.ts";
import { byteSize, listOf, oneOf, path } from "../../options/types.ts";
import { drawingChoice, hasLibrary, type RendererChoice } from "../../renderer/choice.ts";
import { deviceProgram } from "../program.ts";

export const FEATURE_NAMES = {
  [spec.VIRTIO_GPU_F_VIRGL]: "VIRTIO_GPU_F_VIRGL",
  [spec.VIRTIO_GPU_F_EDID]: "VIRTIO_GPU_F_EDID",
};

const MODES = ["2d", "null", "virglrenderer", "gfxstream"] as const;
const CAPSETS = { virgl: spec.VIRTIO_GPU_CAPSET_VIRGL, virgl2: spec.VIRTIO_GPU_CAPSET_VIRGL2 };
type CapsetName = keyof typeof CAPSETS;

export const GPU_OPTIONS = {
  gpuMode: option({
    type: oneOf(MODES),
    value: "MODE",
    help: '"2d" keeps and shows what the guest draws; "virglrenderer" draws in three dimensions, too; "null" answers its driver and keeps no pixel; gfxstream is refused',
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
  ...inGroup("Three dimensions", {
    virgl: toggle("draw in three dimensions: the same as --gpu-mode=virglrenderer"),
    renderNode: option({
      type: path,
      value: "PATH",
      help: "the graphics device that draws, such as /dev/dri/renderD128 (default: the first that may be used; the processor draws where there is none)",
    }),
    capset: optionList({
      type: listOf(oneOf(Object.keys(CAPSETS) as CapsetName[])),
      value: "NAME[,NAME]",
      help: "the sets of capabilities that the guest is told of: virgl, virgl2 (default: both)",
    }),
    useEgl: toggle("draw by EGL, which is the default"),
    useGles: toggle("draw by OpenGL ES"),
    useGlx: toggle("draw by GLX, for which there must be an X server"),
    useSurfaceless: toggle("draw without a graphics device: by the processor, or by what EGL finds"),
  }),
};

export type GpuValues = ValuesOf<typeof GPU_OPTIONS>;

export function isFor3d({ virgl, gpuMode }: GpuValues): boolean {
  return virgl || gpuMode === "virglrenderer";
}

export function rendererChoice(values: GpuValues): RendererChoice {
  const { maxMemory, capset } = values;
  const names = capset.length > 0 ? capset.flat() : (Object.keys(CAPSETS) as CapsetName[]);
  return { ...drawingChoice(values), maxMemory, capsets: names.map((name) => CAPSETS[name]) };
}

function check(values: GpuValues): void {
  const { gpuMode, resolution, virgl, useGlx } = values;
  if (gpuMode === "gfxstream")
    throw new UsageError(
      "--gpu-mode=gfxstream is not there: give --gpu-mode=virglrenderer for three dimensions, or leave it out for two",
    );
  if (virgl && gpuMode === "null")
    throw new UsageError("--virgl draws, and --gpu-mode=null keeps no pixel: leave one of them out");
  // Management software names the render node whether anything is to be drawn by it or not.
  const flag = (["useEgl", "useGles", "useGlx", "useSurfaceless"] as const).find((name) => values[name]);
  const idle = flag ?? (values.capset.length > 0 ? "capset" : undefined);
  if (idle && !isFor3d(values))
    throw new UsageError(`${flagOf(idle)} is for three dimensions: give --virgl, too`);
  const other = (["useEgl", "useGles", "useSurfaceless", "renderNode"] as const).find((name) => values[name]);
  if (useGlx && other)
    throw new UsageError(`--use-glx does not go with ${flagOf(other)}: leave one of them out`);
  if (resolution.length > spec.VIRTIO_GPU_MAX_SCANOUTS)
    throw new UsageError(`--resolution is given ${resolution.length} times: a guest has up to 16 screens`);
}

export const program = deviceProgram({
  name: "vringd-gpu",
  description:
    "Gives a virtual machine a graphics card for two dimensions, or for three with virglrenderer, over vhost-user.",
  /** Three dimensions are there where their library is: whoever asks for them where it can't draw is told why. */
  get capabilities() {
    const features = hasLibrary() ? (["render-node", "virgl"] as const) : [];
    return { type: "gpu" as const, features: [...features] };
  },
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
