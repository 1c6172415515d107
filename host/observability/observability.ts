// All that lets others look at a running daemon, opened and closed as one. Loaded only if somebody may look.
import type { Server } from "node:http";
import { reasonOf, StartError } from "../errors.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import type { AccessChoice } from "../protocol/entrance.ts";
import { listenPrivately } from "../protocol/private-socket.ts";
import { Attention } from "./attention.ts";
import { controlRoutes } from "./control.ts";
import { Events } from "./events.ts";
import { closeNow, createBoundedServer } from "./http-server.ts";
import { Metrics } from "./metrics.ts";
import { formatMetricsAddress, type MetricsAddress } from "./metrics-address.ts";
import type { Subject } from "./subject.ts";

export interface ObservabilityOptions {
  /** Where the control socket is to be. */
  controlSocket?: string | undefined;
  controlAccess?: AccessChoice;
  metrics?: MetricsAddress | undefined;
  metricsAccess?: AccessChoice;
}

export class Observability {
  private readonly open: { server: Server; remove: () => void }[] = [];
  private readonly attention: Attention;
  private readonly metrics: Metrics;
  private readonly events = new Events();

  private constructor(
    subject: Subject,
    private readonly log: LimitedLog,
  ) {
    this.attention = new Attention(subject.backend.activity);
    this.metrics = new Metrics(subject, this.attention);
  }

  static async open(
    options: ObservabilityOptions,
    subject: Subject,
    log: LimitedLog,
  ): Promise<Observability> {
    const { controlSocket, metrics: address } = options;
    const observability = new Observability(subject, log);
    const { attention, metrics, events } = observability;
    try {
      if (controlSocket !== undefined) {
        const routes = controlRoutes(subject, attention, metrics, events, log, quit);
        const address = { path: controlSocket };
        await observability.listen(createBoundedServer(routes, log), address, options.controlAccess);
        log.observe = (entry) => events.add(entry);
        log.info({ controlSocket }, "control socket is open");
      }
      if (address !== undefined) {
        const routes = { "/metrics": { GET: () => metrics.answer() } };
        await observability.listen(createBoundedServer(routes, log), address, options.metricsAccess);
        log.info({ metrics: formatMetricsAddress(address) }, "metrics are open");
      }
      return observability;
    } catch (error) {
      observability.close();
      throw error;
    }
  }

  /** At once, whoever is connected. */
  close(): void {
    this.attention.end();
    this.metrics.close();
    this.log.observe = undefined;
    this.events.close();
    for (const { server, remove } of this.open.splice(0)) {
      closeNow(server);
      remove();
    }
  }

  private async listen(server: Server, address: MetricsAddress, access?: AccessChoice): Promise<void> {
    const remove =
      "path" in address
        ? await listenPrivately(server, address.path, access)
        : await listenAtPort(server, address);
    // Such as no more descriptors for whoever comes: Node refuses that one, and says so.
    server.on("error", (error) => this.log.warn({ reason: reasonOf(error) }, "a look from outside failed"));
    this.open.push({ server, remove });
  }
}

async function listenAtPort(
  server: Server,
  { host, port }: { host: string; port: number },
): Promise<() => void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port, exclusive: true }, resolve);
    });
  } catch (error) {
    const where = formatMetricsAddress({ host, port });
    throw new StartError(`can't listen on ${where} for --metrics: ${reasonOf(error)}`);
  }
  return () => {};
}

function quit(): void {
  process.kill(process.pid, "SIGTERM");
}
