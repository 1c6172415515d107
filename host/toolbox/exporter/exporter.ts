// `vringd exporter`: serves /metrics of all devices of this machine until a signal ends it.
import { optionFor } from "../../command-line/option-name.ts";
import { connectServiceManager } from "../../linux/service-manager.ts";
import { createBoundedServer } from "../../observability/http-server.ts";
import { listenAt } from "../../observability/listen.ts";
import { formatMetricsAddress } from "../../observability/metrics-address.ts";
import { createLog } from "../../process/log.ts";
import { nameProcess } from "../../process/name.ts";
import { isHangupIgnored } from "../../process/signals.ts";
import { accessTo } from "../../programs/command-line.ts";
import { NAME } from "../terminal.ts";
import type { ExporterValues } from "./command.ts";
import { Scraper } from "./scrape.ts";

/** What Prometheus knows the text by. */
const CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export async function exporter(sockets: readonly string[], values: ExporterValues): Promise<void> {
  const { listen: address, listenGroup, listenMode, timeout, logLevel, logFormat } = values;
  const path = "path" in address ? address.path : undefined;
  const access = accessTo("--listen", listenGroup, listenMode, "--listen=unix:PATH", path);
  nameProcess(NAME);
  const log = await createLog(logLevel, logFormat, optionFor, "exporter");
  const { tell } = connectServiceManager();
  const ended = endOfService();
  const scraper = new Scraper(sockets, timeout * 1000, log);
  const scrape = async () => ({ status: 200, contentType: CONTENT_TYPE, body: await scraper.scrape() });
  const server = createBoundedServer({ "/metrics": { GET: scrape } }, log);
  const close = await listenAt(server, address, { access, option: "--listen", log });
  log.info({ metrics: formatMetricsAddress(address) }, "ready");
  tell("READY=1");
  const signal = await ended;
  tell("STOPPING=1");
  log.info({ signal }, "stopping");
  close();
}

/** Resolves with the signal's name. */
function endOfService(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, resolve);
    process.on("SIGHUP", isHangupIgnored() ? () => {} : resolve);
  });
}
