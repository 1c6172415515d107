// A GPU device in this process, served to our own front-ends, and what becomes of it when the test ends.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { serve } from "vringd";
import { GpuDevice } from "../../host/devices/gpu/device.ts";
import type { GpuValues } from "../../host/devices/gpu/options.ts";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import { DisplayPeer } from "./gpu-display.ts";
import { connectGpu, GpuDriver } from "./gpu-driver.ts";

const VALUES: GpuValues = {
  gpuMode: "2d",
  resolution: [],
  headless: false,
  maxMemory: 64 << 20,
  renderNode: undefined,
  virgl: false,
  capset: [],
  useEgl: false,
  useGles: false,
  useGlx: false,
  useSurfaceless: false,
};

export async function gpuRig(t: TestContext, values: Partial<GpuValues> = {}) {
  const directory = mkdtempSync(join(tmpdir(), "vringd-gpu-"));
  const socketPath = join(directory, "vhost");
  const device = await GpuDevice.open({ ...VALUES, ...values });
  const server = await serve({ device, socketPath, packed: true });
  const open: { close(): void }[] = [];
  t.after(async () => {
    for (const each of open) each.close();
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return {
    device,
    async connect(options?: Parameters<typeof connectGpu>[1]): Promise<GpuDriver> {
      const frontEnd = await connectGpu(socketPath, options);
      open.push(frontEnd);
      return new GpuDriver(frontEnd);
    },
    async display(frontEnd: FrontEnd, options?: Parameters<typeof DisplayPeer.attach>[1]) {
      const display = await DisplayPeer.attach(frontEnd, options);
      open.push(display);
      return display;
    },
  };
}
