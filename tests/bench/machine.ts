// What the figures were measured on.
import { cpus, loadavg, release, totalmem } from "node:os";
import manifest from "../../package.json" with { type: "json" };
import { fioVersion } from "./fio.ts";

export function describeMachine() {
  const [cpu] = cpus();
  return {
    date: new Date().toISOString(),
    cpu: cpu?.model ?? "unknown",
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    vringd: manifest.version,
    fio: fioVersion() ?? "not installed",
    /** More than 0 here is other work, which costs everyone. */
    loadAverage: loadavg()[0]!,
  };
}

export type Machine = ReturnType<typeof describeMachine>;
