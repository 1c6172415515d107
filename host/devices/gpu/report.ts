// What operators see of the device, and the size of a screen that they can say.
import { formatSize } from "../../displays/size.ts";
import type { DeviceCommand, DeviceFacts, DeviceGauge } from "../device.ts";
import type { GpuValues } from "./options.ts";
import type { Rendering } from "./rendering.ts";
import type { Scene } from "./scene.ts";

export function factsOf(scene: Scene, values: GpuValues, rendering?: Rendering): DeviceFacts {
  const { maxMemory } = values;
  const mode = rendering ? "virglrenderer" : values.gpuMode;
  const { resources, display, screens } = scene;
  const shown = display.outputs.flatMap(({ picture }, index) =>
    picture ? [[String(index), formatSize(picture)] as const] : [],
  );
  return {
    log: { gpuMode: mode, screens: screens.count, ...(rendering ? { renderer: rendering.name } : {}) },
    status: {
      gpu: { mode, display: display.isThere ? "of the front-end" : "none", ...rendererOf(rendering) },
      screens: Object.fromEntries(shown),
      resources: { count: resources.count, bytes: resources.byteLength, bytesMax: maxMemory },
    },
    labels: { gpu_mode: mode },
    gauges: [
      gauge("resources", "Pictures that the guest has made.", () => resources.count),
      gauge("resource_bytes", "Memory of this machine that they take.", () => resources.byteLength),
    ],
  };
}

function rendererOf(rendering: Rendering | undefined) {
  if (rendering === undefined) return {};
  const { isThere, pid = "none", name = "none", contexts } = rendering;
  return { renderer: isThere ? name : "ended", rendererPid: pid, contexts: contexts.size };
}

function gauge(name: string, help: string, value: () => number): DeviceGauge {
  return {
    name,
    help,
    get value() {
      return value();
    },
  };
}

export function resolutionCommand({ display, screens }: Scene, changed: () => void): DeviceCommand {
  return {
    usage: "SCREEN WxH",
    help: "the size that the guest is to give a screen, where no front-end shows it",
    run(args) {
      if (display.isThere)
        throw new RangeError("the front-end shows the screens, and says how large they are");
      screens.resize(args);
      changed();
    },
  };
}
