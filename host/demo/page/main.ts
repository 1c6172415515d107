// The page: compiles the core, and draws the machine after each action.
import { makeMemory } from "../memory-map.ts";
import type { CoreModules } from "../traced-core.ts";
import { App } from "./app.ts";
import { wireControls } from "./controls.ts";
import { byId, keepClearOfControls, refill } from "./elements.ts";
import { drawCoreState, drawDisk, drawLog, drawOperations, drawRequests, drawStores } from "./panels.ts";
import { ringFigure } from "./ring-figure.ts";
import { indices, inflightTables, ringTables } from "./tables.ts";
import { wireTheme } from "./theme.ts";
import { wireTours } from "./tours.ts";

wireTheme();
start().catch(fail);
window.addEventListener("error", ({ error }) => fail(error));

async function start(): Promise<void> {
  if (typeof WebAssembly === "undefined")
    throw new Error("this browser has no WebAssembly, or it is turned off");
  const [core, hooked] = await Promise.all([compile("core-wasm"), compile("hooked-wasm")]);
  const modules: CoreModules = { core, hooked };
  const app = new App(modules, memoryOrReason(), window.location.hash);
  wireControls(app);
  wireTours(app);
  app.onChange(() => draw(app));
  window.addEventListener("hashchange", () => app.load(window.location.hash));
  byId("main").hidden = false;
  new ResizeObserver(keepClearOfControls).observe(byId("controls"));
  app.refresh();
}

function draw(app: App): void {
  refill(byId("figure"), ringFigure(app));
  refill(byId("indices"), ...indices(app));
  refill(byId("ring"), ...ringTables(app));
  refill(byId("inflight"), ...inflightTables(app));
  drawRequests(app);
  drawCoreState(app);
  drawOperations(app);
  drawDisk(app);
  drawStores(app);
  drawLog(app);
}

function memoryOrReason(): WebAssembly.Memory {
  try {
    return makeMemory();
  } catch {
    throw new Error(
      "this device has no 52 MiB of address space left for the core; closing other pages may help",
    );
  }
}

async function compile(id: string): Promise<WebAssembly.Module> {
  const { content } = byId(id) as HTMLTemplateElement;
  const text = atob(content.textContent ?? "");
  return WebAssembly.compile(Uint8Array.from(text, (character) => character.charCodeAt(0)));
}

function fail(error: unknown): void {
  const failure = byId("failure");
  failure.textContent = `The ring can’t be shown: ${error instanceof Error ? error.message : String(error)}.`;
  failure.hidden = false;
}
