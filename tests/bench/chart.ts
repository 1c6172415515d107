// A line chart over queue depth, as SVG: one panel, a line for each back-end, bars from the least to the most.
import type { Spread } from "./statistics.ts";

export interface Line {
  name: string;
  /** By depth, ascending. */
  points: { depth: number; spread: Spread }[];
}

export interface Chart {
  title: string;
  subtitle: string;
  yLabel: string;
  isLogarithmic: boolean;
  lines: Line[];
}

const WIDTH = 800;
const HEIGHT = 460;
const LEFT = 92;
const RIGHT = 620;
const TOP = 64;
const BOTTOM = 400;

/** Okabe and Ito's colours, which all eyes tell apart. */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];

export function drawChart(chart: Chart): string {
  const depths = [...new Set(chart.lines.flatMap(({ points }) => points.map(({ depth }) => depth)))].sort(
    (a, b) => a - b,
  );
  const x = scale(Math.log2(depths[0]!), Math.log2(depths.at(-1)!), LEFT + 16, RIGHT - 16);
  const y = yAxis(chart);
  const marks = spreadOut(chart.lines.map(({ points }) => y.at(points.at(-1)!.spread.median)));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" font-family="sans-serif" font-size="13">`,
    `<title>${escaped(chart.title)}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text(LEFT, 26, chart.title, 'font-size="17" font-weight="bold"'),
    text(LEFT, 46, chart.subtitle, 'fill="#555"'),
    ...y.ticks.map((tick) => horizontal(y.at(tick), tick)),
    ...depths.map((depth) => text(x(Math.log2(depth)), BOTTOM + 20, `${depth}`, 'text-anchor="middle"')),
    text((LEFT + RIGHT) / 2, BOTTOM + 44, "queue depth (requests in flight)", 'text-anchor="middle"'),
    text(
      0,
      0,
      chart.yLabel,
      `text-anchor="middle" transform="translate(20 ${(TOP + BOTTOM) / 2}) rotate(-90)"`,
    ),
    ...chart.lines.map((line, i) =>
      drawLine(line, COLOURS[i % COLOURS.length]!, (d) => x(Math.log2(d)), y.at, marks[i]!),
    ),
    "</svg>\n",
  ].join("\n");
}

type Scale = (value: number) => number;

function scale(from: number, to: number, start: number, end: number): Scale {
  return (value) => start + ((value - from) / (to - from || 1)) * (end - start);
}

function yAxis({ lines, isLogarithmic }: Chart): { at: Scale; ticks: number[] } {
  const spreads = lines.flatMap(({ points }) => points.map(({ spread }) => spread));
  const most = Math.max(...spreads.map(({ max }) => max));
  if (!isLogarithmic) {
    const step = roundStep(most / 6);
    const ticks = Array.from({ length: Math.ceil(most / step) + 1 }, (_, i) => i * step);
    return { at: scale(0, ticks.at(-1)!, BOTTOM, TOP), ticks };
  }
  const first = Math.floor(Math.log10(Math.min(...spreads.map(({ min }) => min))));
  const last = Math.ceil(Math.log10(most));
  const position = scale(first, last, BOTTOM, TOP);
  const ticks = Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
  return { at: (value) => position(Math.log10(value)), ticks };
}

/** 1, 2 or 5 times a power of ten, not below `step`. */
function roundStep(step: number): number {
  const unit = 10 ** Math.floor(Math.log10(step));
  return [1, 2, 5, 10].map((factor) => factor * unit).find((candidate) => candidate >= step)!;
}

function drawLine({ name, points }: Line, colour: string, x: Scale, y: Scale, markY: number): string {
  const places = points.map(({ depth, spread }) => ({ at: x(depth), spread }));
  const path = places.map(({ at, spread }) => `${round(at)},${round(y(spread.median))}`).join(" ");
  const bars = places.map(({ at, spread: { min, max } }) => {
    const [low, high] = [round(y(min)), round(y(max))];
    return `M${round(at)} ${low}V${high}M${round(at - 3)} ${low}h6M${round(at - 3)} ${high}h6`;
  });
  const end = places.at(-1)!;
  return [
    `<g stroke="${colour}" fill="none" stroke-width="2">`,
    `<polyline points="${path}"/>`,
    `<path d="${bars.join("")}" stroke-width="1" opacity="0.6"/>`,
    `<path d="M${round(end.at + 5)} ${round(y(end.spread.median))}L${RIGHT + 4} ${round(markY)}" stroke-width="1" opacity="0.5"/>`,
    ...places.map(
      ({ at, spread }) =>
        `<circle cx="${round(at)}" cy="${round(y(spread.median))}" r="3" fill="${colour}"/>`,
    ),
    "</g>",
    text(RIGHT + 8, markY + 4, name, `fill="${colour}"`),
  ].join("\n");
}

/** Moves labels apart that would lie over one another. */
function spreadOut(wanted: readonly number[]): number[] {
  const gap = 17;
  const order = wanted.map((_, i) => i).sort((a, b) => wanted[a]! - wanted[b]!);
  const placed = [...wanted];
  for (let i = 1; i < order.length; i++) {
    placed[order[i]!] = Math.max(placed[order[i]!]!, placed[order[i - 1]!]! + gap);
  }
  const beyond = Math.max(0, Math.max(...placed) - BOTTOM);
  return placed.map((at) => at - beyond);
}

function horizontal(at: number, tick: number): string {
  const line = `<path d="M${LEFT} ${round(at)}H${RIGHT}" stroke="#ddd"/>`;
  return line + text(LEFT - 8, at + 4, tick.toLocaleString("en"), 'text-anchor="end"');
}

function text(x: number, y: number, content: string, attributes = ""): string {
  return `<text x="${round(x)}" y="${round(y)}" ${attributes}>${escaped(content)}</text>`;
}

function escaped(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
