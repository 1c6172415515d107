// The requests of a vhost-user front-end, one method each, over one connection.
import { connectUnix } from "../linux/unix-socket.ts";
import {
  type ConfigAccess,
  decodeConfig,
  decodeInflight,
  decodeU64,
  decodeVringState,
  encodeConfig,
  encodeInflight,
  encodeLog,
  encodeMemoryTable,
  encodeMessage,
  encodeSingleRegion,
  encodeStateTransfer,
  encodeU64,
  encodeVringAddress,
  encodeVringState,
  type InflightDescription,
  type LogDescription,
  type MemoryRegion,
  type VringAddress,
} from "../protocol/codec.ts";
import { Connection, type Message } from "../protocol/connection.ts";
import * as m from "../protocol/messages.ts";

/** The back-end closed the connection where a reply was due. */
export class Disconnected extends Error {}

/** The back-end did not do in time what was waited for. */
export class TooLate extends Error {}

const NO_PAYLOAD: Buffer = Buffer.alloc(0);
const REPLY_TIMEOUT_MS = 10_000;
/** As long as a daemon may take to start on a busy machine. */
const CONNECT_TIMEOUT_MS = 20_000;

export class Requests {
  /** What was agreed on; bit numbers are looked up here to decide whether to ask for replies. */
  protocolFeatures = 0n;
  replyTimeoutMs = REPLY_TIMEOUT_MS;
  /** When all has to be over, by performance.now(): no reply is waited for any longer. */
  deadlineMs = Number.POSITIVE_INFINITY;
  /** Whether the peer has ever replied as a back-end does. */
  hasAnswered = false;
  private last: Promise<unknown> = Promise.resolve();
  private awaited: { connection: Connection; message: Promise<Message | undefined> } | undefined;

  constructor(public connection: Connection) {}

  hasProtocolFeature(bit: number): boolean {
    return ((this.protocolFeatures >> BigInt(bit)) & 1n) === 1n;
  }

  /** Sends anything, and waits for nothing. */
  raw(request: number, payload = NO_PAYLOAD, fds: readonly number[] = [], flags = 0): Promise<void> {
    return this.connection.send(encodeMessage(request, flags, payload), fds);
  }

  /** The next message from the back-end, whatever it is; undefined when the connection is closed. */
  receive(): Promise<Message | undefined> {
    return withTimeout(this.nextMessage(), this.patienceMs, "no message from the back-end");
  }

  /** Sends a request that has a reply of its own, and returns it. */
  query(request: number, payload = NO_PAYLOAD, fds: readonly number[] = [], flags = 0): Promise<Message> {
    const reply = this.last.then(() => this.exchange(request, payload, fds, flags));
    this.last = reply.catch(() => {});
    return reply;
  }

  /** Sends a request without a reply of its own; with REPLY_ACK, returns what the back-end says of it. */
  async command(request: number, payload = NO_PAYLOAD, fds: readonly number[] = []): Promise<bigint> {
    if (this.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_REPLY_ACK)) {
      return decodeU64(await this.query(request, payload, fds, m.VHOST_USER_NEED_REPLY_MASK));
    }
    await this.last;
    await this.raw(request, payload, fds);
    return 0n;
  }

  getFeatures = () => this.queryU64(m.VHOST_USER_GET_FEATURES);
  setFeatures = (features: bigint) => this.command(m.VHOST_USER_SET_FEATURES, encodeU64(features));
  getProtocolFeatures = () => this.queryU64(m.VHOST_USER_GET_PROTOCOL_FEATURES);
  setOwner = () => this.command(m.VHOST_USER_SET_OWNER);
  resetOwner = () => this.command(m.VHOST_USER_RESET_OWNER);
  getQueueNum = () => this.queryU64(m.VHOST_USER_GET_QUEUE_NUM);
  getMaxMemSlots = () => this.queryU64(m.VHOST_USER_GET_MAX_MEM_SLOTS);
  resetDevice = () => this.command(m.VHOST_USER_RESET_DEVICE);
  getStatus = () => this.queryU64(m.VHOST_USER_GET_STATUS);
  setStatus = (status: bigint) => this.command(m.VHOST_USER_SET_STATUS, encodeU64(status));

  /** Has no acknowledgement: whether there is one is only being agreed on. */
  async setProtocolFeatures(features: bigint): Promise<void> {
    await this.raw(m.VHOST_USER_SET_PROTOCOL_FEATURES, encodeU64(features));
    this.protocolFeatures = features;
  }

  setMemTable(regions: readonly MemoryRegion[], fds: readonly number[]): Promise<bigint> {
    return this.command(m.VHOST_USER_SET_MEM_TABLE, encodeMemoryTable(regions), fds);
  }

  addMemReg(region: MemoryRegion, fd: number): Promise<bigint> {
    return this.command(m.VHOST_USER_ADD_MEM_REG, encodeSingleRegion(region), [fd]);
  }

  remMemReg(region: MemoryRegion): Promise<bigint> {
    return this.command(m.VHOST_USER_REM_MEM_REG, encodeSingleRegion(region));
  }

  setVringNum(index: number, num: number): Promise<bigint> {
    return this.command(m.VHOST_USER_SET_VRING_NUM, encodeVringState({ index, num }));
  }

  setVringAddr(address: VringAddress): Promise<bigint> {
    return this.command(m.VHOST_USER_SET_VRING_ADDR, encodeVringAddress(address));
  }

  setVringBase(index: number, num: number): Promise<bigint> {
    return this.command(m.VHOST_USER_SET_VRING_BASE, encodeVringState({ index, num }));
  }

  /** Stops the ring; the reply says where it stopped. */
  async getVringBase(index: number): Promise<number> {
    const payload = encodeVringState({ index, num: 0 });
    return decodeVringState(await this.query(m.VHOST_USER_GET_VRING_BASE, payload)).num;
  }

  setVringEnable(index: number, isEnabled: boolean): Promise<bigint> {
    const payload = encodeVringState({ index, num: isEnabled ? 1 : 0 });
    return this.command(m.VHOST_USER_SET_VRING_ENABLE, payload);
  }

  setVringKick = (index: number, fd?: number) => this.setVringFd(m.VHOST_USER_SET_VRING_KICK, index, fd);
  setVringCall = (index: number, fd?: number) => this.setVringFd(m.VHOST_USER_SET_VRING_CALL, index, fd);
  setVringErr = (index: number, fd?: number) => this.setVringFd(m.VHOST_USER_SET_VRING_ERR, index, fd);

  setBackendReqFd(fd: number): Promise<bigint> {
    return this.command(m.VHOST_USER_SET_BACKEND_REQ_FD, NO_PAYLOAD, [fd]);
  }

  /** Undefined where the back-end refuses: its reply is empty then. */
  async getConfig(offset: number, byteLength: number): Promise<Buffer | undefined> {
    const payload = encodeConfig({ offset, flags: 0, bytes: Buffer.alloc(byteLength) });
    const reply = await this.query(m.VHOST_USER_GET_CONFIG, payload);
    return reply.payload.length === 0 ? undefined : decodeConfig(reply).bytes;
  }

  setConfig(access: ConfigAccess): Promise<bigint> {
    return this.command(m.VHOST_USER_SET_CONFIG, encodeConfig(access));
  }

  /** The caller owns the descriptor. */
  async getInflightFd(
    numQueues: number,
    queueSize: number,
  ): Promise<{ description: InflightDescription; fd: number | undefined }> {
    const payload = encodeInflight({ mmapSize: 0n, mmapOffset: 0n, numQueues, queueSize });
    const reply = await this.query(m.VHOST_USER_GET_INFLIGHT_FD, payload);
    return { description: decodeInflight(reply), fd: reply.fds[0] };
  }

  setInflightFd(description: InflightDescription, fd: number): Promise<bigint> {
    return this.command(m.VHOST_USER_SET_INFLIGHT_FD, encodeInflight(description), [fd]);
  }

  /** What the back-end answers: 0 unless it can't use the log. */
  async setLogBase(description: LogDescription, fd: number): Promise<bigint> {
    return decodeU64(await this.query(m.VHOST_USER_SET_LOG_BASE, encodeLog(description), [fd]));
  }

  setLogFd = (fd: number) => this.command(m.VHOST_USER_SET_LOG_FD, NO_PAYLOAD, [fd]);

  /** The same: bit 8 says that no descriptor comes back. */
  async setDeviceStateFd(direction: number, fd: number): Promise<bigint> {
    const payload = encodeStateTransfer({ direction, phase: m.VHOST_TRANSFER_STATE_PHASE_STOPPED });
    return decodeU64(await this.query(m.VHOST_USER_SET_DEVICE_STATE_FD, payload, [fd]));
  }

  checkDeviceState = () => this.queryU64(m.VHOST_USER_CHECK_DEVICE_STATE);

  /** A connection receives one message at a time: the one that a timeout gave up on is still the next. */
  private nextMessage(): Promise<Message | undefined> {
    const { connection } = this;
    if (this.awaited?.connection === connection) return this.awaited.message;
    const message = connection.receive().finally(() => {
      if (this.awaited?.connection === connection) this.awaited = undefined;
    });
    this.awaited = { connection, message };
    return message;
  }

  private get patienceMs(): number {
    return Math.max(0, Math.min(this.replyTimeoutMs, Math.ceil(this.deadlineMs - performance.now())));
  }

  private setVringFd(request: number, index: number, fd: number | undefined): Promise<bigint> {
    if (fd === undefined)
      return this.command(request, encodeU64(BigInt(index | m.VHOST_USER_VRING_NOFD_MASK)));
    return this.command(request, encodeU64(BigInt(index)), [fd]);
  }

  private async queryU64(request: number): Promise<bigint> {
    return decodeU64(await this.query(request));
  }

  private async exchange(
    request: number,
    payload: Buffer,
    fds: readonly number[],
    flags: number,
  ): Promise<Message> {
    const name = m.requestName(request);
    await this.raw(request, payload, fds, flags).catch(() => {
      throw new Disconnected(`${name}: the back-end has closed the connection`);
    });
    const reply = await withTimeout(this.nextMessage(), this.patienceMs, `${name}: no reply`);
    if (reply === undefined) throw new Disconnected(`${name}: the back-end closed the connection`);
    if (reply.request !== request) throw new Error(`${name}: a reply to ${m.requestName(reply.request)}`);
    if ((reply.flags & m.VHOST_USER_REPLY_MASK) === 0) throw new Error(`${name}: not marked as a reply`);
    this.hasAnswered = true;
    return reply;
  }
}

/** Connects to a socket path, waiting for someone to listen, or takes a connected socket. */
export async function openConnection(
  target: string | number,
  timeoutMs = CONNECT_TIMEOUT_MS,
): Promise<Connection> {
  if (typeof target === "number") return new Connection(target);
  for (const deadline = performance.now() + timeoutMs; ; ) {
    try {
      return new Connection(connectUnix(target));
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

export async function withTimeout<T>(promise: Promise<T>, timeoutMs: number, message: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new TooLate(`${message} in ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}
