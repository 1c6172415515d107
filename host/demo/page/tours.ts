// Guided tours on the page: a stop's actions are done, its text shown, and the place it speaks of outlined.
import { type Place, TOURS, type Tour } from "../tour.ts";
import type { App } from "./app.ts";
import { byId, element, keepClearOfControls } from "./elements.ts";

interface Visit {
  tour: Tour;
  at: number;
  /** Actions that had been done when each stop was reached. */
  counts: number[];
}

export function wireTours(app: App): void {
  let visit: Visit | undefined;
  const choice = byId("tours") as HTMLSelectElement;
  TOURS.forEach(({ name }, i) => {
    choice.append(element("option", { attributes: { value: String(i) } }, name));
  });

  const draw = () => {
    byId("tour").hidden = visit === undefined;
    if (visit !== undefined) show(visit, { forth, back, leave });
    point(visit?.tour.stops[visit.at]?.look);
  };
  const arrive = (next: Visit) => {
    visit = next;
    for (const code of next.tour.stops[next.at]!.codes) app.act(code);
    draw();
  };
  const forth = () => {
    if (visit === undefined) return;
    if (visit.at + 1 === visit.tour.stops.length) leave();
    else arrive({ ...visit, at: visit.at + 1, counts: [...visit.counts, app.scenario.actions.length] });
  };
  const back = () => {
    if (visit === undefined || visit.at === 0) return;
    const surplus = app.scenario.actions.length - visit.counts.at(-1)!;
    if (surplus > 0) app.back(surplus);
    visit = { ...visit, at: visit.at - 1, counts: visit.counts.slice(0, -1) };
    draw();
  };
  const leave = () => {
    visit = undefined;
    choice.value = "";
    draw();
    byId("next").focus();
  };

  choice.addEventListener("change", () => {
    const tour = TOURS[Number(choice.value)];
    if (choice.value === "" || tour === undefined) return leave();
    app.begin(tour.config);
    arrive({ tour, at: 0, counts: [0] });
    byId("tour-forth").focus();
  });
  app.onBegin(() => {
    if (visit !== undefined) {
      visit = undefined;
      choice.value = "";
      draw();
    }
  });
}

interface Ways {
  forth(): void;
  back(): void;
  leave(): void;
}

function show({ tour, at }: Visit, ways: Ways): void {
  const { stops } = tour;
  const isLast = at + 1 === stops.length;
  const hadFocus = document.activeElement?.id;
  byId("tour").replaceChildren(
    element(
      "p",
      { attributes: { "aria-live": "polite" } },
      element("b", {}, `${at + 1}/${stops.length} `),
      stops[at]!.text,
    ),
    element(
      "div",
      { class: "buttons" },
      element(
        "button",
        {
          attributes: { type: "button", id: "tour-back", "aria-disabled": at === 0 ? "true" : undefined },
          onClick: ways.back,
        },
        "Earlier",
      ),
      element(
        "button",
        { class: "primary", attributes: { type: "button", id: "tour-forth" }, onClick: ways.forth },
        isLast ? "Done" : "Go on",
      ),
      element("button", { attributes: { type: "button" }, onClick: ways.leave }, "Leave the tour"),
    ),
  );
  if (hadFocus === "tour-back" || hadFocus === "tour-forth") byId(hadFocus).focus();
}

function point(place: Place | undefined): void {
  keepClearOfControls();
  for (const panel of document.querySelectorAll<HTMLElement>("[data-place]")) {
    const isPlace = panel.dataset.place === place;
    panel.classList.toggle("looked-at", isPlace);
    if (isPlace && !isInSight(panel)) panel.scrollIntoView({ block: "start" });
  }
}

/** Whether its head, and something of what follows, can be seen below the controls. */
function isInSight(panel: HTMLElement): boolean {
  const { top } = panel.getBoundingClientRect();
  return top >= byId("controls").getBoundingClientRect().bottom && top < window.innerHeight * 0.6;
}
