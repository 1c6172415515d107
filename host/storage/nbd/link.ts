// One link to the server: as many connections as are wanted, all negotiated, that live and end together.
import type { ConnectionOptions } from "node:tls";
import { EIO } from "../../linux/errno.ts";
import { onAbort } from "../../process/abort.ts";
import { ConnectionError, requestError } from "./errors.ts";
import { type ExportInfo, shakeHands } from "./handshake.ts";
import { NBD_FLAG_CAN_MULTI_CONN } from "./protocol.ts";
import type { NbdRequest } from "./request.ts";
import { type OnBroken, Transmission } from "./transmission.ts";
import type { NbdTarget } from "./uri.ts";
import { silenceOf } from "./vigil.ts";
import { Wire } from "./wire.ts";

/** For the connection and the handshake, together. A server that is there answers in milliseconds. */
const HANDSHAKE_MS = 10_000;

/** Less than `vringd ctl` waits for an answer. */
const LOOK_MS = 1500;

export interface LinkEvents {
  onAnswer(request: NbdRequest, error: Error | undefined): void;
  onBroken: OnBroken;
}

export class Link {
  private readonly connections: Transmission[] = [];
  private next = 0;
  /** Whether a connection has broken, or the link was ended. */
  isOver = false;

  private constructor(
    readonly info: ExportInfo,
    private readonly events: LinkEvents,
    private readonly silenceMs: number,
  ) {}

  /** Rejects with a ConnectionError, also when `stopping` says so. */
  static async open(
    target: NbdTarget,
    tls: ConnectionOptions | undefined,
    events: LinkEvents,
    stopping: AbortSignal,
  ): Promise<Link> {
    const { wire, info } = await negotiate(target, tls, stopping);
    const link = new Link(info, events, silenceOf(target.reconnectTimeoutMs));
    link.add(wire);
    try {
      // "In the absence of this flag, clients SHOULD NOT multiplex their commands over more than one connection".
      const count = info.flags & NBD_FLAG_CAN_MULTI_CONN ? target.connections : 1;
      while (link.connections.length < count) {
        const another = await negotiate(target, tls, stopping);
        link.add(another.wire);
        const difference = differenceOf(info, another.info);
        if (difference) throw new ConnectionError(`two connections to one export differ: ${difference}`);
      }
      if (link.isOver) throw new ConnectionError("the server hung up");
    } catch (error) {
      link.abandon();
      throw error;
    }
    return link;
  }

  get connectionCount(): number {
    return this.connections.length;
  }

  get inFlight(): number {
    return this.connections.reduce((sum, { inFlight }) => sum + inFlight, 0);
  }

  send(request: NbdRequest): void {
    // Nobody would ever answer it.
    if (this.isOver) {
      request.settle(requestError(EIO, "the connection has ended"));
      return;
    }
    this.next = (this.next + 1) % this.connections.length;
    this.connections[this.next]!.send(request);
  }

  disconnect(): void {
    this.isOver = true;
    for (const connection of this.connections) connection.disconnect();
  }

  /** Ends it at once. What was unanswered is returned, in the order in which it was made. */
  abandon(): NbdRequest[] {
    this.isOver = true;
    const unanswered = this.connections.flatMap((connection) => connection.abandon());
    return unanswered.sort((a, b) => a.number - b.number);
  }

  private add(wire: Wire): void {
    const { onAnswer, onBroken } = this.events;
    // One that breaks takes the others with it: what is made again must not meet newer requests on another connection.
    const breakAll: OnBroken = (reason, unanswered) => {
      const others = this.abandon();
      onBroken(
        reason,
        [...unanswered, ...others].sort((a, b) => a.number - b.number),
      );
    };
    this.connections.push(new Transmission(wire, onAnswer, breakAll, this.silenceMs));
  }
}

/**
 * What an export is now, of which this is known. By a connection of its own, which a server that takes one at a time leaves
 * waiting. Rejects with a ConnectionError, also if more has changed than the size.
 */
export async function lookAgain(
  target: NbdTarget,
  tls: ConnectionOptions | undefined,
  known: ExportInfo,
): Promise<ExportInfo> {
  const ending = new AbortController();
  const timer = setTimeout(() => ending.abort(), LOOK_MS);
  try {
    const { wire, info } = await negotiate(target, tls, ending.signal);
    wire.destroy();
    const difference = differenceOf(known, { ...info, byteLength: known.byteLength });
    if (difference) throw new ConnectionError(difference);
    return info;
  } finally {
    clearTimeout(timer);
  }
}

/** What of an export has changed, in words; undefined if nothing has that a guest would notice. */
export function differenceOf(before: ExportInfo, now: ExportInfo): string | undefined {
  if (now.byteLength !== before.byteLength)
    return `the export had ${before.byteLength} bytes and has ${now.byteLength}`;
  if (now.flags !== before.flags)
    return `the export's flags were 0x${before.flags.toString(16)} and are 0x${now.flags.toString(16)}`;
  if (now.minimumBlock !== before.minimumBlock || now.maximumBlock !== before.maximumBlock)
    return "the export's block sizes have changed";
  return undefined;
}

async function negotiate(
  target: NbdTarget,
  tls: ConnectionOptions | undefined,
  stopping: AbortSignal,
): Promise<{ wire: Wire; info: ExportInfo }> {
  // Not AbortSignal.timeout(), which Node 20 may collect as garbage before its time has come.
  const ending = new AbortController();
  const end = () => ending.abort();
  const timer = setTimeout(end, HANDSHAKE_MS);
  const unhear = onAbort(stopping, end);
  try {
    return await shakeHandsUntil(ending.signal, target, tls);
  } finally {
    clearTimeout(timer);
    unhear();
  }
}

async function shakeHandsUntil(
  deadline: AbortSignal,
  { address, exportName, reconnectTimeoutMs }: NbdTarget,
  tls: ConnectionOptions | undefined,
): Promise<{ wire: Wire; info: ExportInfo }> {
  const silenceMs = silenceOf(reconnectTimeoutMs);
  const wire = await Wire.connect(address, tls === undefined, deadline, silenceMs);
  const giveUp = () => wire.fail(new ConnectionError("the server doesn't answer"));
  const unhear = onAbort(deadline, giveUp);
  try {
    return { wire, info: await shakeHands(wire, exportName, tls) };
  } catch (error) {
    wire.destroy();
    throw error;
  } finally {
    unhear();
  }
}
