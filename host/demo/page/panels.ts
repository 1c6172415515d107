// The panels beside the memory: requests, operations, disk, the next step's stores, and the log.
import type { GuestRequest } from "../guest.ts";
import { nameOf } from "../guest.ts";
import { leftoversOf } from "../inflight-view.ts";
import type { Ending } from "../kernel.ts";
import type { Entry } from "../machine.ts";
import { DISK_SECTORS } from "../memory-map.ts";
import { endingCode } from "../scenario.ts";
import { type Line, statusName } from "../stores.ts";
import type { App } from "./app.ts";
import { byId, chip, element, refill } from "./elements.ts";

const REQUESTS_SHOWN = 6;

export function drawRequests(app: App): void {
  const { requests } = app.machine.guest;
  const shown = requests.slice(-REQUESTS_SHOWN).reverse();
  if (shown.length === 0) {
    refill(byId("requests"), element("p", { class: "empty" }, "No requests yet."));
    return;
  }
  const rows = shown.map((request) =>
    element(
      "tr",
      {},
      element("td", {}, chip(request.serial)),
      element("td", {}, `${nameOf(request)}${request.isIndirect ? ", indirect" : ""}`),
      element("td", { class: "outcome" }, outcome(app, request)),
    ),
  );
  const earlier = requests.length - shown.length;
  const more = earlier > 0 && element("p", { class: "empty" }, `and ${earlier} before these`);
  refill(byId("requests"), element("table", { class: "requests" }, element("tbody", {}, ...rows)), more);
}

function outcome(app: App, request: GuestRequest): string {
  if (request.isAbandoned) return "given up";
  if (request.status !== undefined) {
    const letters = request.kind === "read" && request.letters !== "" ? `: ${request.letters}` : "";
    return `${statusName(request.status)}${letters}`;
  }
  const isWithKernel = app.machine.kernel.operations.some(({ token }) => token === request.token);
  if (isWithKernel) return "with the kernel";
  if (app.machine.guest.ring.usedTokens().includes(request.token)) return "used";
  const isTaken = leftoversOf(app.machine.view, app.machine.config).includes(request.token);
  return isTaken ? "with the core" : "in the ring";
}

export function drawCoreState(app: App): void {
  const { machine } = app;
  byId("core-state").textContent = machine.isCrashed
    ? "dead"
    : machine.isBroken
      ? "runs; its ring is broken"
      : machine.isAwake
        ? "has something to look at"
        : "asleep until a kick or an answer";
  byId("core-state").parentElement!.parentElement!.classList.toggle("dead", machine.isCrashed);
}

const ENDINGS: readonly [ending: Ending, label: string][] = [
  ["done", "Do"],
  ["short", "Half"],
  ["failed", "Fail"],
];

export function drawOperations(app: App): void {
  const { kernel } = app.machine;
  const rows = kernel.operations.map((operation, index) => {
    const serial = app.machine.guest.ring.ownerOfToken(operation.token);
    const extent =
      operation.name === "FSYNC"
        ? ""
        : ` ${operation.byteLength} B at ${operation.offset} (sector ${operation.offset / 512})`;
    const buttons = ENDINGS.filter(([ending]) => ending !== "short" || kernel.canBeShort(operation)).map(
      ([ending, label]) =>
        element(
          "button",
          {
            attributes: {
              type: "button",
              "data-key": `${ending}${index}`,
              "aria-label": `${label}: ${operation.name} for #${serial ?? "?"}`,
            },
            onClick: () => app.act(endingCode(ending, index)),
          },
          label,
          index === 0 && ending === "done" && element("kbd", {}, "c"),
        ),
    );
    return element(
      "li",
      {},
      element("span", { class: "operation" }, chip(serial), element("code", {}, operation.name), extent),
      element("span", { class: "endings" }, ...buttons),
    );
  });
  const calls =
    kernel.calls > 0 &&
    element("p", { class: "note" }, "The call eventfd is written: the driver is being called.");
  const kicks =
    kernel.kicks > 0 &&
    element("p", { class: "note" }, "The kick eventfd is written, and nobody has read it.");
  const empty = rows.length === 0 && element("p", { class: "empty" }, "Nothing asked for.");
  refill(byId("operations"), element("ul", { class: "operations" }, ...rows), empty, calls, kicks);
}

export function drawDisk(app: App): void {
  const { disk, kernel } = app.machine;
  const busy = new Set(
    kernel.operations.flatMap(({ offset, byteLength, name }) =>
      name === "FSYNC"
        ? []
        : Array.from({ length: byteLength / 512 }, (_, i) => Math.floor(offset / 512) + i),
    ),
  );
  const cells = Array.from({ length: DISK_SECTORS }, (_, sector) => {
    const contents = disk.contents(sector);
    const isUnstable = disk.unstable.has(sector);
    const notes = [
      `sector ${sector}: ${contents === "·" ? "zeroes" : contents}`,
      isUnstable ? "not flushed" : "",
      busy.has(sector) ? "an operation is under way" : "",
      app.changedSectors.has(sector) ? "changed" : "",
    ].filter((note) => note !== "");
    const classes = [
      isUnstable ? "unstable" : "",
      busy.has(sector) ? "busy" : "",
      app.changedSectors.has(sector) ? "changed" : "",
    ];
    return element(
      "li",
      { class: classes.join(" ").trim(), attributes: { title: notes.join(", ") } },
      element("span", { class: "number", attributes: { "aria-hidden": "true" } }, String(sector)),
      element("span", { class: "letter", attributes: { "aria-hidden": "true" } }, contents),
      element("span", { class: "unseen" }, notes.join(", ")),
    );
  });
  refill(byId("disk"), ...cells);
}

export function drawStores(app: App): void {
  const holder = byId("stores");
  if (app.machine.isCrashed) {
    refill(holder, element("p", { class: "empty" }, "There is no core."));
    return;
  }
  const stores = app.machine.rehearse();
  if (stores.length === 0) {
    refill(holder, element("p", { class: "empty" }, "It would store nothing that others see."));
    return;
  }
  const rows = stores.map((store, index) => {
    const line = app.machine.describe(store);
    const crash = element(
      "button",
      {
        class: "crash",
        attributes: {
          type: "button",
          "data-key": `x${index}`,
          "aria-label": `Crash before store ${index + 1}, ${line.code}`,
          title: "crash before this store",
        },
        onClick: () => app.act(`x${index}`),
      },
      "✕",
    );
    return element(
      "li",
      { class: line.text.startsWith("publishes") ? "turning" : "" },
      crash,
      lineElement(line),
    );
  });
  refill(
    holder,
    element("ol", { class: "stores" }, ...rows),
    element("p", { class: "note" }, "✕ lets the core die before that store."),
  );
}

const LOG_SHOWN = 40;
let drawn: Entry[] = [];

/** New entries go on top of those that are there: a reader who listens hears these alone. */
export function drawLog(app: App): void {
  const { log } = app.machine;
  const holder = byId("log");
  const isContinued = drawn.length > 0 && log[drawn.length - 1] === drawn.at(-1);
  if (!isContinued) holder.replaceChildren();
  const first = isContinued ? drawn.length : Math.max(0, log.length - LOG_SHOWN);
  for (let i = first; i < log.length; i++) {
    holder.querySelector("details")?.removeAttribute("open");
    holder.prepend(entryElement(log[i]!, i, i === log.length - 1));
  }
  while (holder.children.length > LOG_SHOWN) holder.lastElementChild!.remove();
  drawn = [...log];
  const last = log.at(-1);
  byId("headline").replaceChildren(...(last === undefined ? [] : [actor(last), ` ${last.title}.`]));
}

function entryElement(entry: Entry, index: number, isOpen: boolean): HTMLElement {
  const heading = [element("span", { class: "serial" }, String(index)), actor(entry), ` ${entry.title}`];
  if (entry.lines.length === 0) return element("li", {}, element("div", { class: "bare" }, ...heading));
  const lines = element("ul", {}, ...entry.lines.map((line) => element("li", {}, lineElement(line))));
  const attributes = isOpen ? { open: "" } : {};
  return element("li", {}, element("details", { attributes }, element("summary", {}, ...heading), lines));
}

function actor({ actor: who }: Entry): HTMLElement {
  return element("b", { class: `actor ${who}` }, who);
}

function lineElement({ code, text, clause }: Line): HTMLElement {
  return element(
    "span",
    { class: "line" },
    code !== undefined && element("code", {}, code),
    ` ${text}`,
    clause !== undefined && element("cite", {}, clause),
  );
}
