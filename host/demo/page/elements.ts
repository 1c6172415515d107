// Making elements, without a framework.

type Child = Node | string | undefined | false;

interface Options {
  class?: string;
  /** Attributes as they are written. */
  attributes?: Record<string, string | undefined>;
  onClick?: () => void;
}

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  options: Options = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (options.class !== undefined) made.className = options.class;
  for (const [name, value] of Object.entries(options.attributes ?? {})) {
    if (value !== undefined) made.setAttribute(name, value);
  }
  const { onClick } = options;
  if (onClick !== undefined) made.addEventListener("click", onClick);
  made.append(...children.filter((child) => child !== undefined && child !== false));
  return made;
}

export function svg(
  tag: string,
  attributes: Record<string, string | number>,
  ...children: Node[]
): SVGElement {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

export function svgText(text: string, attributes: Record<string, string | number>): SVGElement {
  const made = svg("text", attributes);
  made.textContent = text;
  return made;
}

export function byId(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no ${id}`);
  return found;
}

/** Puts new content into an element. What had the focus has it afterwards, if it is there again. */
export function refill(holder: Element, ...children: Child[]): void {
  const key = holder.contains(document.activeElement)
    ? document.activeElement?.getAttribute("data-key")
    : null;
  holder.replaceChildren(...children.filter((child) => child !== undefined && child !== false));
  if (key === null || key === undefined) return;
  const again = holder.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`);
  (again ?? holder.querySelector<HTMLElement>("button") ?? (holder as HTMLElement)).focus();
}

/** A button that can't be used keeps the focus: it is marked, not disabled. */
export function setUsable(button: HTMLElement, isUsable: boolean): void {
  if (isUsable) button.removeAttribute("aria-disabled");
  else button.setAttribute("aria-disabled", "true");
}

export function isUsable(button: HTMLElement): boolean {
  return button.getAttribute("aria-disabled") !== "true";
}

/** What is scrolled to must not lie beneath the controls, which stay in sight. */
export function keepClearOfControls(): void {
  document.documentElement.style.scrollPaddingTop = `${byId("controls").offsetHeight + 8}px`;
}

export const HUES = 8;

/** "#3", in its colour. */
export function chip(serial: number | undefined, isFaint = false): HTMLElement {
  if (serial === undefined) return element("span", { class: "chip none" }, "–");
  return element("span", { class: `chip hue${serial % HUES}${isFaint ? " faint" : ""}` }, `#${serial}`);
}
