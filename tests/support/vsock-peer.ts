// Programs of the host around a socket device that meets hostile guests, and packets of such guests.
import { connect, createServer, type Socket } from "node:net";
import { VSOCK_CID_GUEST_MIN, VSOCK_CID_HOST } from "../../assembly/spec/virtio-vsock.ts";
import type { Random } from "./random.ts";
import { encode } from "./vsock-packet.ts";

/** Ports at which programs listen on the host, and which they call in the guest. */
const PORTS = [1, 2];
const CALL_MS = 20;

/** Listens, and calls again and again. `reads`: whether it ever reads. */
export function vsockPeer(uds: string, reads: boolean): { close(): void } {
  const sockets = new Set<Socket>();
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {}).once("close", () => sockets.delete(socket));
    socket.write("hello from the host\n".repeat(500));
    if (reads) socket.on("end", () => socket.end()).resume();
  };
  const servers = PORTS.map((port) =>
    createServer({ allowHalfOpen: true, pauseOnConnect: !reads }, keep)
      .on("error", () => {})
      .listen(`${uds}_${port}`),
  );
  const timer = setInterval(() => {
    const socket = connect({ path: uds, allowHalfOpen: true });
    socket.write(`CONNECT ${PORTS[sockets.size % PORTS.length]}\n`);
    keep(socket);
  }, CALL_MS);
  return {
    close() {
      clearInterval(timer);
      for (const server of servers) server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Of few ports, so that it meets connections; any field may be anything. */
export function anyVsockPacket(random: Random): Buffer {
  const any = () => random.pick([0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, random.below(2 ** 32)]);
  const rarely = (likely: number) => (random.below(20) === 0 ? any() : likely);
  const isCalled = random.below(3) === 0;
  return encode({
    sourceCid: rarely(VSOCK_CID_GUEST_MIN),
    cid: rarely(VSOCK_CID_HOST),
    port: rarely(isCalled ? 0x40000000 + random.below(8) : random.pick([1, 1, 2, 3])),
    guestPort: rarely(1 + random.below(3)),
    type: rarely(random.pick([1, 1, 1, 2])) & 0xffff,
    op: random.below(20) === 0 ? any() & 0xffff : random.pick([1, 1, 2, 3, 4, 5, 5, 5, 6, 7, 8]),
    flags: rarely(random.below(4)),
    byteLength: rarely(random.pick([0, 1, 16, 500, 4000])),
    bufAlloc: rarely(random.pick([0, 100, 65536, 1 << 20])),
    fwdCnt: rarely(random.below(100_000)),
  });
}
