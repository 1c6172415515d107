// What operators see of connections: by command, and as numbers.
import { VIRTIO_VSOCK_TYPE_STREAM, VSOCK_CID_HOST } from "../../../assembly/spec/virtio-vsock.ts";
import type { CommandAnswer, DeviceCommand, DeviceGauge } from "../device.ts";
import type { Connection } from "./connection.ts";
import type { Connections } from "./connections.ts";

export function connectionsCommand(connections: Connections): DeviceCommand {
  return {
    usage: "",
    help: "each connection: its ports, bytes either way, and what either side may send still",
    run: () => listOf(connections),
  };
}

export function gaugesOf(connections: Connections): DeviceGauge[] {
  const sum = (count: (connection: Connection) => number) =>
    [...connections.all].reduce((all, connection) => all + count(connection), 0);
  const gauge = (name: string, help: string, value: () => number): DeviceGauge => ({
    name,
    help,
    get value() {
      return value();
    },
  });
  return [
    gauge("connections", "Connections that are there.", () => sum(() => 1)),
    gauge("connections_begun", "Connections that there have been.", () => connections.begun),
    gauge(
      "connections_refused",
      "Calls of either side that were refused for want of room.",
      () => connections.refused,
    ),
    gauge("waiting_bytes", "Bytes of guests that wait for programs of the host.", () =>
      sum(({ credit }) => credit.waiting),
    ),
  ];
}

/** Connections that are watched one by one. */
const WATCHED_MAX = 8;

/** How many there are, and of those that have carried most: bytes either way, and what either side may send. */
export function watchedOf({ all }: Connections): Record<string, string> {
  const busiest = [...all].sort((a, b) => bytesOf(b) - bytesOf(a));
  const shown = busiest.slice(0, WATCHED_MAX).map((connection) => {
    const { bytesOut, bytesIn, credit } = connection;
    return [nameOf(connection), `out ${bytesOut} in ${bytesIn} credit ${credit.room}/${credit.free}`];
  });
  return { connections: String(busiest.length), ...Object.fromEntries(shown) };
}

function listOf({ all }: Connections): CommandAnswer {
  const entries = [...all].map((connection) => {
    const { type, bytesIn, bytesOut, credit } = connection;
    const kind = type === VIRTIO_VSOCK_TYPE_STREAM ? "bytes" : "messages";
    const counts = `from guest ${bytesOut}, to guest ${bytesIn}, waiting ${credit.waiting}`;
    const text = `${connection.describe()}, ${kind}: ${counts}, guest may send ${credit.room}, host may send ${credit.free}`;
    return [nameOf(connection), text];
  });
  return Object.fromEntries(entries.length > 0 ? entries : [["connections", 0]]);
}

function bytesOf({ bytesIn, bytesOut }: Connection): number {
  return bytesIn + bytesOut;
}

function nameOf({ cid, port, guestPort }: Connection): string {
  const other = cid === VSOCK_CID_HOST ? `host ${port}` : `CID ${cid} port ${port}`;
  return `guest ${guestPort} - ${other}`;
}
