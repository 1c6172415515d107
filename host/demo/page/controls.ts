// The controls that stay: settings, buttons, keys, the form, and tours.
import { RING_SIZES } from "../config.ts";
import type { Mischief } from "../demo-ring.ts";
import { MISCHIEF } from "../driver-story.ts";
import type { RequestKind } from "../guest.ts";
import { DISK_SECTORS } from "../memory-map.ts";
import { nextAction } from "../next-action.ts";
import { wishCode } from "../scenario.ts";
import type { App } from "./app.ts";
import { byId, element, isUsable, setUsable } from "./elements.ts";

interface Command {
  /** Of its button, if there is one that stays. */
  id?: string;
  key: string;
  what: string;
  run(): void;
  isPossible(): boolean;
}

const select = (id: string) => byId(id) as HTMLSelectElement;
const checkbox = (id: string) => byId(id) as HTMLInputElement;

export function wireControls(app: App): void {
  const commands = commandsOf(app);
  for (const { id, key, run } of commands) {
    if (id === undefined) continue;
    const button = byId(id);
    button.setAttribute("aria-keyshortcuts", key);
    if (id !== "add") button.addEventListener("click", () => isUsable(button) && run());
  }
  wireForm(app);
  wireSettings(app);
  wireKeys(commands);
  listKeys(commands);
  app.onChange(() => update(app, commands));
}

function commandsOf(app: App): Command[] {
  const act = (
    id: string,
    key: string,
    what: string,
    code: () => string,
    isPossible: () => boolean,
  ): Command => ({
    id,
    key,
    what,
    isPossible,
    run: () => app.act(code()),
  });
  const always = () => true;
  const isHealthy = () => !app.machine.isBroken;
  return [
    { id: "next", key: "n", what: "what is due next", run: () => app.next(), isPossible: always },
    {
      id: "back",
      key: "b",
      what: "take the last action back",
      run: () => app.back(),
      isPossible: () => app.scenario.actions.length > 0,
    },
    { id: "run", key: "r", what: "run by itself, or pause", run: () => app.toggleRun(), isPossible: always },
    act(
      "add",
      "a",
      "add the request of the form",
      () => wishCode(app.wish),
      () => app.machine.canAdd(app.wish),
    ),
    act(
      "kick",
      "k",
      "kick, if the device wants it",
      () => "k",
      () => isHealthy() && app.machine.guest.ring.owesKick,
    ),
    act("take", "u", "take back what is used", () => "u", isHealthy),
    act(
      "step",
      "s",
      "one step of the core",
      () => "s",
      () => !app.machine.isCrashed,
    ),
    act(
      "crash",
      "x",
      "let the core die",
      () => "x",
      () => !app.machine.isCrashed,
    ),
    { key: "c", what: "let the kernel do its first operation", run: () => app.act("c0"), isPossible: always },
    act(
      "recover",
      "v",
      "let another core take over",
      () => "v",
      () => app.machine.isCrashed,
    ),
    act("break", "h", "let the driver break the ring", () => `b${select("mischief").value}`, isHealthy),
    act("reset", "z", "reset the device", () => "z", always),
  ];
}

function wireForm(app: App): void {
  for (let sector = 0; sector < DISK_SECTORS; sector++) {
    select("sector").append(element("option", {}, String(sector)));
  }
  const read = () => {
    const sectorCount = Number(select("count").value);
    app.wish = {
      kind: select("kind").value as RequestKind,
      sector: Math.min(Number(select("sector").value), DISK_SECTORS - sectorCount),
      sectorCount,
      isIndirect: checkbox("indirect").checked,
    };
    for (const id of ["sector", "count"]) select(id).disabled = app.wish.kind === "flush";
    app.refresh();
  };
  select("sector").value = String(app.wish.sector);
  byId("add-form").addEventListener("change", read);
  byId("add-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (isUsable(byId("add"))) app.act(wishCode(app.wish));
  });
}

function wireSettings(app: App): void {
  const radios = document.querySelectorAll<HTMLInputElement>(".settings input");
  const value = (name: string) =>
    document.querySelector<HTMLInputElement>(`input[name=${name}]:checked`)?.value;
  for (const radio of radios) {
    radio.addEventListener("change", () =>
      app.begin({
        isPacked: value("format") === "packed",
        size: Number(value("size") ?? RING_SIZES[0]),
        hasEventIdx: checkbox("event-idx").checked,
      }),
    );
  }
}

function wireKeys(commands: Command[]): void {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    if (!checkbox("use-keys").checked || isTyping(event.target)) return;
    const command = commands.find(({ key }) => key === event.key);
    if (command === undefined) return;
    event.preventDefault();
    if (command.isPossible()) command.run();
  });
}

/** A select takes letters to choose by. */
function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement;
}

function listKeys(commands: Command[]): void {
  const items = commands.map(({ key, what }) =>
    element("div", {}, element("dt", {}, element("kbd", {}, key)), element("dd", {}, what)),
  );
  const use = element("input", { attributes: { type: "checkbox", id: "use-keys", checked: "" } });
  byId("keys").append(
    element("label", { class: "check" }, use, " use these keys"),
    element("dl", {}, ...items),
  );
}

function update(app: App, commands: Command[]): void {
  const { config } = app.machine;
  for (const { id, isPossible } of commands) {
    if (id !== undefined) setUsable(byId(id), isPossible());
  }
  const next = nextAction(app.machine, app.wish);
  byId("next").firstElementChild!.textContent = `Next: ${next.text}`;
  byId("run").firstElementChild!.textContent = app.isRunning ? "Pause" : "Run";
  byId("run").setAttribute("aria-pressed", String(app.isRunning));
  check("format", config.isPacked ? "packed" : "split");
  check("size", String(config.size));
  checkbox("event-idx").checked = config.hasEventIdx;
  offerMischief(config.isPacked);
}

function check(name: string, value: string): void {
  const radio = document.querySelector<HTMLInputElement>(`input[name=${name}][value="${value}"]`);
  if (radio !== null) radio.checked = true;
}

/** A packed ring has no heads. */
function offerMischief(isPacked: boolean): void {
  const wanted = (Object.keys(MISCHIEF) as Mischief[]).filter((name) => !isPacked || name !== "head");
  if (select("mischief").options.length === wanted.length) return;
  select("mischief").replaceChildren(
    ...wanted.map((name) => element("option", { attributes: { value: name } }, MISCHIEF[name])),
  );
}
