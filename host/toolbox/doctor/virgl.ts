// Whether a guest could be given three dimensions, by starting the renderer that it would get.
import { drawingChoice, hasLibrary } from "../../renderer/choice.ts";
import { Renderer } from "../../renderer/renderer.ts";
import { type Finding, note, ok } from "./finding.ts";

const CHECK = "virgl";
const MEMORY = 256 << 20;
const DEFAULTS = { renderNode: undefined, useGles: false, useGlx: false, useSurfaceless: false };

export async function virglFinding(): Promise<Finding> {
  const choice = drawingChoice(DEFAULTS);
  const where = choice.renderNode ?? "no graphics device";
  try {
    const renderer = await Renderer.start({
      ...choice,
      maxMemory: MEMORY,
      passed: () => {},
      ended: () => {},
    });
    renderer.close();
    return ok(CHECK, `guests can be given three dimensions, drawn by ${renderer.name} (${where})`);
  } catch (error) {
    const text = `guests can be given no three dimensions: ${(error as Error).message}`;
    return note(
      CHECK,
      text,
      hasLibrary() ? adviceFor(choice.renderNode) : "install Debian's libvirglrenderer1",
    );
  }
}

function adviceFor(renderNode: string | undefined): string {
  return renderNode === undefined
    ? "install Mesa with EGL and llvmpipe: Debian's libegl1 and libgl1-mesa-dri"
    : `--use-surfaceless draws without ${renderNode}`;
}
