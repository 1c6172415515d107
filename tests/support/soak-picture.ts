// A picture of samples over time: memory above, below what is left of descriptors and mappings between front-ends.
import type { Incarnation, Sample } from "./process-samples.ts";

interface Life {
  name: string;
  incarnations: readonly Incarnation[];
}

interface Panel {
  title: string;
  idleOnly: boolean;
  fields: ("rssMiB" | "pssMiB" | "fds" | "mappings")[];
}

const PANELS: Panel[] = [
  { title: "memory, MiB", idleOnly: false, fields: ["rssMiB", "pssMiB"] },
  { title: "descriptors between front-ends", idleOnly: true, fields: ["fds"] },
  { title: "mappings between front-ends", idleOnly: true, fields: ["mappings"] },
];

const WIDTH = 900;
const PANEL_HEIGHT = 200;
const GAP = 40;
const LEFT = 60;
const COLORS = ["#1f6feb", "#d1242f", "#1a7f37", "#9a6700"];
/** Dashes tell the fields of a panel apart, colours the daemons. */
const DASHES = ["", "3 3"];

export function drawSamples(lives: readonly Life[]): string {
  const samples = lives.flatMap(({ incarnations }) => incarnations.flatMap((each) => each.samples));
  const seconds = Math.max(1, ...samples.map((sample) => sample.seconds));
  const height = PANELS.length * (PANEL_HEIGHT + GAP) + GAP;
  const panels = PANELS.map((panel, i) =>
    drawPanel(panel, lives, samples, seconds, GAP + i * (PANEL_HEIGHT + GAP)),
  );
  const size = `width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}"`;
  const style = `font-family="sans-serif" font-size="12" fill="#333"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${style}><title>What daemons take of the machine</title><rect width="100%" height="100%" fill="#fff"/>${legend(lives)}${panels.join("")}</svg>\n`;
}

interface Scale {
  x(sample: Sample): number;
  y(value: number): number;
}

function drawPanel(
  panel: Panel,
  lives: readonly Life[],
  all: readonly Sample[],
  seconds: number,
  top: number,
): string {
  const { title, fields } = panel;
  const most = Math.max(1, ...all.flatMap((sample) => fields.map((field) => sample[field]))) * 1.1;
  const scale: Scale = {
    x: (sample) => LEFT + (sample.seconds / seconds) * (WIDTH - LEFT - 10),
    y: (value) => top + PANEL_HEIGHT * (1 - value / most),
  };
  const lines = lives.map((life) => drawLife(panel, life, colorOf(life.name, lives), scale));
  const axis = `<path d="M${LEFT} ${top}V${top + PANEL_HEIGHT}H${WIDTH - 10}" fill="none" stroke="#999"/>`;
  const labels = [
    text(LEFT, top - 6, fields.length > 1 ? `${title}: resident, and its share of it (dashed)` : title),
    text(5, top + 10, most.toFixed(0)),
    text(5, top + PANEL_HEIGHT, "0"),
    text(WIDTH - 60, top + PANEL_HEIGHT + 14, `${seconds.toFixed(0)} s`),
  ];
  return [axis, ...labels, ...lines].join("");
}

function drawLife(
  { fields, idleOnly }: Panel,
  { incarnations }: Life,
  color: string,
  { x, y }: Scale,
): string {
  const lines = incarnations.flatMap(({ samples }) => {
    const shown = samples.filter(({ isIdle }) => isIdle || !idleOnly);
    return fields.map((field, f) => {
      const points = shown.map((sample) => `${x(sample).toFixed(1)},${y(sample[field]).toFixed(1)}`);
      return `<polyline fill="none" stroke="${color}" stroke-dasharray="${DASHES[f]}" points="${points.join(" ")}"/>`;
    });
  });
  return lines.join("");
}

function legend(lives: readonly Life[]): string {
  const names = [...new Set(lives.map(({ name }) => name))];
  return names
    .map((name, i) => `<text x="${LEFT + i * 200}" y="14" fill="${colorOf(name, lives)}">${name}</text>`)
    .join("");
}

function colorOf(name: string, lives: readonly Life[]): string {
  const names = [...new Set(lives.map((life) => life.name))];
  return COLORS[names.indexOf(name) % COLORS.length]!;
}

function text(x: number, y: number, content: string): string {
  return `<text x="${x}" y="${y}">${content}</text>`;
}
