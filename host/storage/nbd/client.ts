// Requests to an export, for as long as the disk lives: when the server goes they wait, and are sent again when it is back.

import { setTimeout as sleep } from "node:timers/promises";
import type { ConnectionOptions } from "node:tls";
import { reasonOf } from "../../errors.ts";
import { EIO } from "../../linux/errno.ts";
import { onAbort } from "../../process/abort.ts";
import type { Log } from "../../process/log.ts";
import { SharedTask } from "../shared-task.ts";
import { ConnectionError, requestError } from "./errors.ts";
import type { ExportInfo } from "./handshake.ts";
import { differenceOf, Link, lookAgain } from "./link.ts";
import { NBD_CMD_FLUSH, NBD_FLAG_SEND_FLUSH } from "./protocol.ts";
import { NbdRequest } from "./request.ts";
import { Unflushed } from "./unflushed.ts";
import type { NbdTarget } from "./uri.ts";
import { requestLimitOf, SilenceError, silenceOf } from "./vigil.ts";

/** Copies of unflushed changes may occupy so much: with half of it we flush, with all of it changes wait for that. */
const UNFLUSHED_MAX = 32 << 20;
const BACKOFF_MIN_MS = 50;
const BACKOFF_MAX_MS = 2000;
/** A link that lived so long was a good one: the next attempt follows at once. */
const LASTING_MS = 5000;
/** How long requests in flight may hold up the end. */
const CLOSE_MS = 5000;
const CLOSE_POLL_MS = 5;
/** How long a link that is to be replaced may take to answer what it has been sent. */
const DRAIN_MS = 1000;
/** What is left for another server when silence has taken all the time that there was. */
const SECOND_TRY_MS = 1000;

export type NbdLog = Pick<Log, "info" | "warn" | "error">;

export class NbdClient {
  /** Undefined while there is no server. */
  private link: Link | undefined;
  /** A link that is to be replaced once it has answered what it has been sent: further requests wait. */
  private draining: Link | undefined;
  /** Requests that wait for the server to come back. */
  private waiting: NbdRequest[] = [];
  /** Changes that wait until there is room for a copy of them. */
  private held: NbdRequest[] = [];
  private readonly unflushed = new Unflushed(UNFLUSHED_MAX);
  private isMakingRoom = false;
  /** Of a change that could not be made again, which the guest must hear of at its next flush. */
  private lostError: Error | undefined;
  /** Of a flush that failed: what the server has lost can't be known, and a later flush won't tell. */
  private flushError: Error | undefined;
  /** Whether there is a copy of all that a failed flush may have lost. */
  private canRepeat = true;
  private readonly flushing = new SharedTask(() => this.flushNow(), true);
  private lastNumber = 0;
  private hasGivenUp = false;
  /** Runs from when the server was lost until it is back and has answered something. */
  private giveUpTimer: NodeJS.Timeout | undefined;
  /** Before the next attempt to connect: it grows with each that fails, and each link that doesn't last. */
  private pauseMs = 0;
  private linkedAt = performance.now();
  private readonly closing = new AbortController();

  private constructor(
    private readonly target: NbdTarget,
    private readonly tls: ConnectionOptions | undefined,
    private readonly log: NbdLog,
    /** Of the export, as it was at the start, or at the last change of its size that was asked for. */
    private exported: ExportInfo | undefined = undefined,
  ) {}

  /** Rejects with a ConnectionError; also when `stopping` says so. */
  static async open(
    target: NbdTarget,
    tls: ConnectionOptions | undefined,
    log: NbdLog,
    stopping: AbortSignal,
  ): Promise<NbdClient> {
    const client = new NbdClient(target, tls, log);
    client.link = await client.connect(stopping);
    client.exported = client.link.info;
    return client;
  }

  get info(): ExportInfo {
    return this.exported!;
  }

  get connectionCount(): number {
    return this.link?.connectionCount ?? 0;
  }

  /** Rejects as Node's own calls do, with `code` and `errno`. */
  request(request: NbdRequest): Promise<void> {
    request.number = ++this.lastNumber;
    if (this.closing.signal.aborted) request.settle(requestError(EIO, "the NBD disk is closed"));
    else if (this.hasGivenUp) request.settle(requestError(EIO, "the NBD server is gone"));
    else if (request.isChange && this.unflushed.byteLength >= UNFLUSHED_MAX) this.held.push(request);
    else this.dispatch(request);
    return request.answered;
  }

  /**
   * How many bytes a new connection is told that the export has. If they are more, or fewer and that may be, all requests go
   * over such a connection from then on: on the former a server may know the former size alone. Rejects with a ConnectionError.
   */
  async measure(mayShrink: boolean): Promise<bigint> {
    const { byteLength } = this.info;
    const now = await lookAgain(this.target, this.tls, this.info);
    if (now.byteLength === byteLength || (now.byteLength < byteLength && !mayShrink)) return now.byteLength;
    this.exported = { ...this.info, byteLength: now.byteLength };
    this.log.info({ uri: this.target.uri }, "the NBD export has another size: connecting anew");
    if (this.link && this.link !== this.draining) void this.replace(this.link);
    return now.byteLength;
  }

  /** All that has been acknowledged until now is stable when this resolves. */
  async flush(): Promise<void> {
    await this.flushing.run();
    const error = this.lostError;
    this.lostError = undefined;
    if (error) throw error;
  }

  /** One at a time: of two at once only one might hear that the server has lost something. */
  private async flushNow(): Promise<void> {
    if (this.flushError) throw this.flushError;
    await this.request(new NbdRequest(NBD_CMD_FLUSH, 0, 0n, 0));
  }

  /** Waits for what is in flight, but not for a server that isn't there. */
  async close(): Promise<void> {
    this.closing.abort();
    this.stopGivingUp();
    const deadline = performance.now() + CLOSE_MS;
    while (this.link && this.link.inFlight > 0 && performance.now() < deadline) await sleep(CLOSE_POLL_MS);
    const { link } = this;
    this.link = undefined;
    if (link?.inFlight === 0) link.disconnect();
    this.failAll(link?.abandon() ?? []);
    this.failAll(this.waiting.splice(0));
    this.failAll(this.held.splice(0));
  }

  private dispatch(request: NbdRequest): void {
    if (request.type === NBD_CMD_FLUSH) request.mark = this.unflushed.mark;
    // A server that offers no flush is taken to have no cache that could be lost.
    if (request.isChange && (this.info.flags & NBD_FLAG_SEND_FLUSH) !== 0) this.unflushed.begin(request);
    if (this.link && this.link !== this.draining) this.link.send(request);
    else this.waiting.push(request);
  }

  private failAll(requests: readonly NbdRequest[], reason = "the NBD server is gone"): void {
    for (const request of requests) {
      if (request.change) this.unflushed.drop(request.change);
      request.settle(requestError(EIO, reason));
    }
  }

  private connect(stopping: AbortSignal): Promise<Link> {
    const { target, tls } = this;
    const onAnswer = (request: NbdRequest, error: Error | undefined) => this.heard(request, error);
    const onBroken = (reason: ConnectionError, unanswered: NbdRequest[]) => this.broken(reason, unanswered);
    return Link.open(target, tls, { onAnswer, onBroken }, stopping);
  }

  /** An answer has come. The books are brought up to date before whoever asked hears it. */
  private heard(request: NbdRequest, error: Error | undefined): void {
    if (isRepetition(request)) return;
    this.stopGivingUp();
    const { change, type, mark } = request;
    if (type === NBD_CMD_FLUSH) {
      if (error) this.flushError ??= error;
      else this.unflushed.dropUpTo(mark);
    }
    if (change === undefined) return;
    if (error) this.unflushed.drop(change);
    else this.unflushed.acknowledge(change);
    this.makeRoom();
  }

  /** Flushes by ourselves when copies take too much memory, and lets go on what was held up. */
  private makeRoom(): void {
    this.releaseHeld();
    // A flush that fails at once would bring us back here at once.
    const isHopeless = this.hasGivenUp || this.closing.signal.aborted;
    if (isHopeless || this.isMakingRoom || this.unflushed.acknowledgedLength < UNFLUSHED_MAX / 2) return;
    this.isMakingRoom = true;
    this.flushing
      .run()
      .catch(() => {
        if (this.flushError) this.forgetCopies();
        else this.failAll(this.held.splice(0));
      })
      .finally(() => {
        this.isMakingRoom = false;
        this.makeRoom();
      });
  }

  private releaseHeld(): void {
    while (this.held.length > 0 && this.unflushed.byteLength < UNFLUSHED_MAX) {
      this.dispatch(this.held.shift()!);
    }
  }

  /** Of what a failed flush may have lost: it can't be made again, and so no flush will ever go well. */
  private forgetCopies(): void {
    this.canRepeat = false;
    this.unflushed.dropUpTo(this.unflushed.mark);
  }

  private broken(reason: ConnectionError, unanswered: readonly NbdRequest[]): void {
    this.failAll(unanswered.filter(isRepetition));
    // Else it is a link that was never in use: whoever is opening it sees that it has ended.
    if (this.link === undefined) return;
    this.link = undefined;
    const requests = unanswered.filter((request) => !isRepetition(request));
    const hadItsTime = this.judge(reason);
    this.failAll(requests.filter(hadItsTime), "the NBD server doesn't answer");
    this.waiting = [...requests.filter((request) => !hadItsTime(request)), ...this.waiting];
    if (this.closing.signal.aborted) return;
    if (performance.now() - this.linkedAt > LASTING_MS) this.pauseMs = 0;
    this.log.warn({ uri: this.target.uri, reason: reason.message }, "NBD server lost; requests wait for it");
    this.giveUpTimer ??= setTimeout(() => this.giveUp(), this.patienceAfter(reason));
    void this.connectAgain();
  }

  /**
   * A client "SHOULD wait until there are no inflight requests" before it leaves (NBD_CMD_DISC), and nbdkit may abort where one does not.
   * Never rejects.
   */
  private async replace(link: Link): Promise<void> {
    this.draining = link;
    const deadlineMs = performance.now() + DRAIN_MS;
    while (link === this.link && link.inFlight > 0 && performance.now() < deadlineMs)
      await sleep(CLOSE_POLL_MS);
    // It has broken, or the disk was closed.
    if (link !== this.link) return;
    if (link.inFlight === 0) link.disconnect();
    this.reconnect(link.abandon());
  }

  /** At once, for reasons of our own. */
  private reconnect(unanswered: readonly NbdRequest[]): void {
    this.link = undefined;
    this.waiting = [...unanswered.filter((request) => !isRepetition(request)), ...this.waiting];
    this.pauseMs = 0;
    this.giveUpTimer ??= setTimeout(() => this.giveUp(), this.target.reconnectTimeoutMs);
    void this.connectAgain();
  }

  /** Whose time is over: it has been left unanswered by one server after the other, or for long. */
  private judge(reason: ConnectionError): (request: NbdRequest) => boolean {
    const { reconnectTimeoutMs } = this.target;
    const limitMs = requestLimitOf(reconnectTimeoutMs);
    const isSilent = reason instanceof SilenceError;
    const now = performance.now();
    return ({ madeAt, sends }) =>
      now - madeAt >= limitMs || (isSilent && sends > 1 && now - madeAt >= reconnectTimeoutMs);
  }

  /** How long requests wait for a server: what silence has taken counts. */
  private patienceAfter(reason: ConnectionError): number {
    const { reconnectTimeoutMs } = this.target;
    if (!(reason instanceof SilenceError)) return reconnectTimeoutMs;
    const leftMs = reconnectTimeoutMs - silenceOf(reconnectTimeoutMs);
    return Math.max(leftMs, Math.min(SECOND_TRY_MS, reconnectTimeoutMs));
  }

  /** Never rejects. */
  private async connectAgain(): Promise<void> {
    const { signal } = this.closing;
    for (let lastReason: string | undefined; ; ) {
      await sleep(this.pauseMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      this.pauseMs = Math.min(Math.max(this.pauseMs * 2, BACKOFF_MIN_MS), BACKOFF_MAX_MS);
      try {
        this.adopt(await this.resumed(signal));
        return;
      } catch (error) {
        const reason = error instanceof ConnectionError ? error.message : reasonOf(error);
        if (reason !== lastReason) this.log.info({ reason }, "NBD server not back yet");
        lastReason = reason;
      }
    }
  }

  /** A new link, on which all that may have been lost has been made again. */
  private async resumed(stopping: AbortSignal): Promise<Link> {
    const link = await this.connect(stopping);
    const unhear = onAbort(stopping, () => this.failAll(link.abandon()));
    try {
      const difference = differenceOf(this.info, link.info);
      if (difference) throw new ConnectionError(difference);
      const { mark } = this.unflushed;
      await this.unflushed
        .replay((request) => link.send(request))
        .catch((error) => {
          if (link.isOver) throw new ConnectionError("the server went away again");
          this.lostError = error;
          this.canRepeat = false;
          this.unflushed.dropUpTo(mark);
        });
      if (link.isOver || stopping.aborted) throw new ConnectionError("the server went away again");
      return link;
    } catch (error) {
      this.failAll(link.abandon());
      throw error;
    } finally {
      unhear();
    }
  }

  private adopt(link: Link): void {
    const waiting = this.waiting.splice(0);
    this.link = link;
    this.linkedAt = performance.now();
    this.hasGivenUp = false;
    // All that a failed flush may have lost has been written again, and the server has opened its file anew.
    if (this.canRepeat) this.flushError = undefined;
    else if (this.flushError === undefined) this.canRepeat = true;
    this.log.info({ uri: this.target.uri, requests: waiting.length }, "NBD server back");
    for (const request of waiting) link.send(request);
    if (waiting.length === 0) this.stopGivingUp();
    this.makeRoom();
  }

  private stopGivingUp(): void {
    if (this.giveUpTimer === undefined) return;
    clearTimeout(this.giveUpTimer);
    this.giveUpTimer = undefined;
  }

  private giveUp(): void {
    this.giveUpTimer = undefined;
    // It is there, but slow.
    if (this.link) return;
    this.hasGivenUp = true;
    this.log.error({ uri: this.target.uri }, "NBD server still lost; requests fail until it is back");
    this.failAll(this.waiting.splice(0));
    this.failAll(this.held.splice(0));
  }
}

/** Of a change that had been acknowledged before: nobody waits for it but the link that makes it again. */
function isRepetition({ number }: NbdRequest): boolean {
  return number === 0;
}
