// How long a TCP connection lives whose other end doesn't answer (tcp(7)).
import type { Socket } from "node:net";
import * as libc from "./libc.ts";

const IPPROTO_TCP = 6;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;
const TCP_USER_TIMEOUT = 18;

const PROBES = 4;

/**
 * A host that doesn't answer for so long ends the connection: when nothing is under way by keep-alive probes, else by the
 * limit for bytes that it doesn't acknowledge. Where the runtime doesn't tell the descriptor, by its own idea of keep-alive.
 */
export function limitSilence(socket: Socket, silenceMs: number): void {
  socket.setKeepAlive(true, silenceMs / 2);
  const fd = (socket as { _handle?: { fd?: number } })._handle?.fd ?? -1;
  if (fd < 0) return;
  setOption(fd, TCP_KEEPIDLE, Math.max(Math.round(silenceMs / 2000), 1));
  setOption(fd, TCP_KEEPINTVL, Math.max(Math.round(silenceMs / 2000 / PROBES), 1));
  setOption(fd, TCP_KEEPCNT, PROBES);
  setOption(fd, TCP_USER_TIMEOUT, silenceMs);
}

/** What a kernel doesn't have it does without. */
function setOption(fd: number, name: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  libc.setsockopt(fd, IPPROTO_TCP, name, bytes, bytes.length);
}
