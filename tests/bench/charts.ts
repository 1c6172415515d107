// The charts that a run's cells make: IOPS and latency over queue depth.
import { type CellResult, FIO } from "./cell-run.ts";
import { type Chart, drawChart, type Line } from "./chart.ts";
import { nameOf } from "./grid.ts";
import type { Machine } from "./machine.ts";
import { type Metric, metricOf } from "./summary.ts";

/** Fewer points make no line worth drawing. */
const DEPTHS_MIN = 2;

/** File name to content: iops.svg and p99.svg, and the same with -direct for direct I/O. */
export function drawCharts(results: readonly CellResult[], machine: Machine): Map<string, string> {
  const charts = new Map<string, string>();
  for (const direct of [false, true]) {
    const series = seriesOf(results, direct);
    if (series.length < DEPTHS_MIN) continue;
    const suffix = direct ? "-direct" : "";
    const what = `4 KiB random reads, ${direct ? "direct" : "buffered"}, tmpfs`;
    const subtitle = `${machine.cpu}, ${machine.cores} cores, Linux ${machine.kernel}, ${machine.date.slice(0, 10)}`;
    const common = { subtitle: `${subtitle}; medians, bars from least to most`, isLogarithmic: false };
    const iops: Chart = {
      ...common,
      title: what,
      yLabel: "IOPS (thousands)",
      lines: linesOf(series, "iops", 1e-3),
    };
    charts.set(`iops${suffix}.svg`, drawChart(iops));
    const title = `99th percentile latency of ${what}`;
    const lines = linesOf(series, "p99Us", 1);
    charts.set(
      `p99${suffix}.svg`,
      drawChart({ ...common, title, yLabel: "p99 latency (us)", isLogarithmic: true, lines }),
    );
  }
  return charts;
}

/** Cells that differ in depth alone. */
function seriesOf(results: readonly CellResult[], direct: boolean): CellResult[] {
  const wanted = (depth: number) => `4k randread, depth ${depth}, tmpfs, ${direct ? "direct" : "buffered"}`;
  const series = results.filter(({ cell }) => nameOf(cell) === wanted(cell.depth));
  return series.sort((a, b) => a.cell.depth - b.cell.depth);
}

function linesOf(series: readonly CellResult[], metric: Metric, unit: number): Line[] {
  const names = new Set(series.flatMap(({ samples }) => Object.keys(samples)));
  names.delete(FIO);
  return [...names].map((name) => ({
    name,
    points: series.flatMap(({ cell, samples }) => {
      const own = samples[name];
      if (own === undefined) return [];
      const { median, min, max } = metricOf(own, metric);
      return [{ depth: cell.depth, spread: { median: median * unit, min: min * unit, max: max * unit } }];
    }),
  }));
}
