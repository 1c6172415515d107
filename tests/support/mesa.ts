// This machine's Mesa, for a guest that draws with it: what it loads, and where that lies in an image.
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { ImageExtras } from "./guest-project.ts";

const DIRECTORY = `/usr/lib/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`;
const VENDOR = "/usr/share/glvnd/egl_vendor.d/50_mesa.json";
const LOADED = ["libEGL.so.1", "libEGL_mesa.so.0", "libGLESv2.so.2", "libgbm.so.1", "libdrm.so.2"];
const DRIVER = "dri/virtio_gpu_dri.so";

/** Files by their places in the image; what libraries need beside them comes along. */
export const MESA: ImageExtras = {
  libraries: [
    ...LOADED.map((name) => [join(DIRECTORY, name), `libraries/${name}`] as const),
    [join(DIRECTORY, DRIVER), `libraries/${DRIVER}`],
  ],
  files: [[VENDOR, "libraries/vendors/50_mesa.json"]],
  sizeMiB: 512,
};

/** Why there is none. */
export function whyNoMesa(): string | undefined {
  const missing = [...LOADED, DRIVER].filter((name) => !existsSync(join(DIRECTORY, name)));
  return missing.length === 0 ? undefined : `${missing.join(" and ")} of Mesa are not installed`;
}
