// What a renderer is to draw with, from what users say, and what this machine has for it.
import { accessSync, constants, existsSync, readdirSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { reasonOf } from "../errors.ts";

/** Of virglrenderer.h; host/linux/virglrenderer.ts has them, too, with the library behind it. */
const USE_EGL = 1;
const THREAD_SYNC = 2;
const USE_GLX = 4;
const USE_SURFACELESS = 8;
const USE_GLES = 16;

const DEVICES = "/dev/dri";
const DRM_MAJOR = 226;
const LIBRARY = "libvirglrenderer.so.1";
const DIRECTORIES = [
  "/usr/local/lib",
  "/usr/lib",
  "/usr/lib64",
  "/lib",
  ...["x86_64", "aarch64", "riscv64"].map((machine) => `/usr/lib/${machine}-linux-gnu`),
];

export interface RendererChoice {
  /** VIRGL_RENDERER_*. */
  readonly flags: number;
  /** Undefined: none. */
  readonly renderNode: string | undefined;
  /** In bytes. */
  readonly maxMemory: number;
  /** Their numbers. */
  readonly capsets: readonly number[];
}

export interface DrawingOptions {
  readonly renderNode: string | undefined;
  readonly useGles: boolean;
  readonly useGlx: boolean;
  readonly useSurfaceless: boolean;
}

/** On a graphics device if there is one that we may use, and by the processor otherwise. */
export function drawingChoice(options: DrawingOptions): Pick<RendererChoice, "flags" | "renderNode"> {
  const { useGlx, useSurfaceless, useGles } = options;
  const renderNode = options.renderNode ?? (useGlx || useSurfaceless ? undefined : renderNodes()[0]);
  const isSurfaceless = useSurfaceless || (!useGlx && renderNode === undefined);
  const flags =
    (useGlx ? USE_GLX : USE_EGL) | (isSurfaceless ? USE_SURFACELESS : 0) | (useGles ? USE_GLES : 0);
  return { flags: flags | THREAD_SYNC, renderNode };
}

/** Paths of graphics devices that draw without a screen, and that we may use. */
export function renderNodes(): string[] {
  try {
    const nodes = readdirSync(DEVICES).filter((name) => /^renderD\d+$/.test(name));
    const paths = nodes.sort().map((name) => join(DEVICES, name));
    return paths.filter((path) => whyNoNode(path) === undefined);
  } catch {
    return [];
  }
}

/** Where a user has named one: the library would take another, without a word. Undefined if it may be used. */
export function whyNoNode(path: string): string | undefined {
  try {
    const { rdev } = statSync(path);
    // Such numbers are not split where they are small (makedev(3)).
    if (((rdev >> 8) & 0xfff) !== DRM_MAJOR) return `${path} is no graphics device`;
    accessSync(path, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return `${path} can't be used: ${reasonOf(error)}`;
  }
}

/** Where the library is, as far as can be said without loading it. */
export function hasLibrary(): boolean {
  const asked = (process.env.LD_LIBRARY_PATH ?? "").split(delimiter).filter((path) => path !== "");
  return [...asked, ...DIRECTORIES].some((directory) => existsSync(join(directory, LIBRARY)));
}
