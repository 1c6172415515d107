// A socket device in this process, a driver of ours at its rings that says any packet and hears all, and programs of the host.
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { serve } from "vringd";
import * as spec from "../../assembly/spec/virtio-vsock.ts";
import { VsockDevice } from "../../host/devices/vsock/device.ts";
import { PATIENCE, type Patience } from "../../host/devices/vsock/patience.ts";
import type { FrontEnd, FrontEndOptions } from "../../host/front-end/front-end.ts";
import { ChainDriver, connectDevice, type Posted } from "./chain-driver.ts";
import { until } from "./until.ts";
import { decode, encode, GUEST_ALLOC, GUEST_CID, type Heard, type VsockPacket } from "./vsock-packet.ts";

export const RX = 0;
export const TX = 1;
export const EVENT = 2;
const RX_ROOM = 4096;
const RX_BUFFERS = 16;

/** The driver, and the guest's sockets as far as a test plays them. */
export class VsockGuest {
  readonly heard: Heard[] = [];
  private readonly rx: ChainDriver;
  private readonly tx: ChainDriver;
  private readonly posted: Posted[] = [];
  /** Whether a buffer that was used is offered again. */
  isGenerous = true;
  /** How long an answer of the device's may take; that of until() unless set. */
  patienceMs: number | undefined;

  constructor(
    frontEnd: FrontEnd,
    private readonly cid = GUEST_CID,
  ) {
    this.rx = new ChainDriver(frontEnd, RX);
    this.tx = new ChainDriver(frontEnd, TX);
  }

  offer(count = RX_BUFFERS, room = RX_ROOM): void {
    for (let i = 0; i < count; i++) this.posted.push(this.rx.post([], [room]));
  }

  /** Resolves when the device has taken it. */
  async say(packet: VsockPacket): Promise<void> {
    await this.tx.used(this.sayLater(packet));
  }

  sayLater(packet: VsockPacket): Posted {
    const { data = Buffer.alloc(0) } = packet;
    return this.tx.post(
      [encode({ sourceCid: this.cid, ...packet }), ...(data.length > 0 ? [data] : [])],
      [],
      { indirect: true },
    );
  }

  sayRaw(bytes: Buffer): Promise<unknown> {
    return this.tx.exchange([bytes], []);
  }

  /** The first packet that fits and has not been asked for before. */
  async next(
    op: number | readonly number[],
    isIt: (packet: Heard) => boolean = () => true,
    timeoutMs = this.patienceMs,
  ): Promise<Heard> {
    const ops = [op].flat();
    const look = () => {
      this.listen();
      const at = this.heard.findIndex((packet) => ops.includes(packet.op) && isIt(packet));
      return at === -1 ? undefined : this.heard.splice(at, 1)[0];
    };
    return until(
      look,
      () => `the guest hears operation ${ops.join(" or ")}; it has heard ${this.heard.map(({ op }) => op)}`,
      timeoutMs,
    );
  }

  /** All that was said so far. */
  listen(): Heard[] {
    this.rx.collect();
    while (this.posted[0]?.used) {
      const { bytes } = this.posted.shift()!.used!;
      this.heard.push(decode(bytes, this.cid));
      if (this.isGenerous) this.offer(1);
    }
    return this.heard;
  }
}

/** One stream of the guest's, whose counts are right. */
export class GuestStream {
  received = Buffer.alloc(0);
  private sent = 0;
  /** As the device has told. */
  deviceAlloc = 0;
  deviceForwarded = 0;

  constructor(
    private readonly guest: VsockGuest,
    readonly port: number,
    readonly guestPort: number,
    public alloc = GUEST_ALLOC,
    private readonly cid = spec.VSOCK_CID_HOST,
  ) {}

  say(op: number, more: Partial<VsockPacket> = {}): Promise<void> {
    const { port, guestPort, alloc, cid } = this;
    return this.guest.say({
      op,
      cid,
      port,
      guestPort,
      bufAlloc: alloc,
      fwdCnt: this.received.length,
      ...more,
    });
  }

  send(data: Buffer): Promise<void> {
    this.sent = (this.sent + data.length) >>> 0;
    return this.say(spec.VIRTIO_VSOCK_OP_RW, { data });
  }

  /** For what was sent without send(). */
  countSent(byteLength: number): void {
    this.sent = (this.sent + byteLength) >>> 0;
  }

  /** What may be sent now. */
  get free(): number {
    return this.deviceAlloc - ((this.sent - this.deviceForwarded) >>> 0);
  }

  async next(op: number): Promise<Heard> {
    const packet = await this.guest.next(op, (each) => this.isMine(each));
    this.note(packet);
    return packet;
  }

  /** Takes what has come. */
  look(): void {
    const { heard } = this.guest;
    this.guest.listen();
    for (let i = heard.length - 1; i >= 0; i--) {
      if (!this.isMine(heard[i]!)) continue;
      this.note(heard[i]!);
      if (heard[i]!.op === spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE) heard.splice(i, 1);
    }
    for (let i = 0; i < heard.length; ) {
      const { op, data } = heard[i]!;
      if (op !== spec.VIRTIO_VSOCK_OP_RW || !this.isMine(heard[i]!)) i++;
      else {
        this.received = Buffer.concat([this.received, data]);
        heard.splice(i, 1);
      }
    }
  }

  async receives(byteLength: number): Promise<Buffer> {
    const hasAll = () => {
      this.look();
      return this.received.length >= byteLength;
    };
    await until(hasAll, `the guest receives ${byteLength} bytes`, this.guest.patienceMs);
    return this.received;
  }

  private isMine({ cid, port, guestPort }: Heard): boolean {
    return cid === this.cid && port === this.port && guestPort === this.guestPort;
  }

  /** Counts never go back, so the largest is the latest. */
  private note({ bufAlloc, fwdCnt }: Heard): void {
    this.deviceAlloc = bufAlloc;
    this.deviceForwarded = Math.max(this.deviceForwarded, fwdCnt);
  }
}

export interface RigOptions extends FrontEndOptions {
  bits?: readonly number[];
  patience?: Partial<Patience>;
  maxConnections?: number;
}

export async function vsockRig(t: TestContext, options: RigOptions = {}) {
  const { patience, maxConnections = 1024, ...frontEndOptions } = options;
  const directory = mkdtempSync(join(tmpdir(), "vringd-vsock-"));
  const uds = join(directory, "uds");
  const socketPath = join(directory, "vhost");
  const values = { guestCid: GUEST_CID, udsPath: uds, maxConnections };
  const device = VsockDevice.open(values, { ...PATIENCE, ...patience });
  const server = await serve({ device, socketPath });
  const sockets = new Set<Socket>();
  const servers: Server[] = [];
  const frontEnds: FrontEnd[] = [];
  t.after(async () => {
    for (const socket of sockets) socket.destroy();
    for (const each of servers) each.close();
    for (const each of frontEnds) each.close();
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const keep = (socket: Socket) => {
    sockets.add(socket);
    return socket.on("error", () => {}).once("close", () => sockets.delete(socket));
  };
  const attach = async (more: FrontEndOptions = {}) => {
    const all = { queues: 3, queueSize: 64, configSize: 8, ...frontEndOptions, ...more };
    const frontEnd = await connectDevice(socketPath, { bits: [spec.VIRTIO_VSOCK_F_STREAM], ...all });
    frontEnds.push(frontEnd);
    return { frontEnd, guest: new VsockGuest(frontEnd) };
  };
  const { frontEnd, guest } = await attach();
  guest.offer();
  return {
    directory,
    uds,
    device,
    frontEnd,
    guest,
    attach,
    /** Once a ring was renewed. */
    anotherDriver: () => {
      const renewed = new VsockGuest(frontEnd);
      renewed.offer();
      return renewed;
    },
    /** A caller of the host's. */
    call: (line: string) => {
      const socket = keep(connect({ path: uds, allowHalfOpen: true }));
      socket.write(line);
      return new HostProgram(socket);
    },
    /** A program of the host that waits for calls of the guest. */
    listen: async (port: number): Promise<{ next(): Promise<HostProgram>; count(): number }> => {
      const callers: HostProgram[] = [];
      let count = 0;
      const listener = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
        count++;
        callers.push(new HostProgram(keep(socket)));
      });
      servers.push(listener);
      await new Promise<void>((resolve) => listener.listen(`${uds}_${port}`, resolve));
      return { next: () => until(() => callers.shift(), "the guest's call comes"), count: () => count };
    },
    /** A connection that the guest makes. */
    async connected(port: number, guestPort: number, alloc?: number) {
      const listener = await this.listen(port);
      const stream = new GuestStream(guest, port, guestPort, alloc);
      await stream.say(spec.VIRTIO_VSOCK_OP_REQUEST);
      await stream.next(spec.VIRTIO_VSOCK_OP_RESPONSE);
      return { stream, program: await listener.next(), listener };
    },
  };
}

/** A program of the host, which reads only once it is told to. */
export class HostProgram {
  private readonly parts: Buffer[] = [];
  hasEnded = false;
  hasClosed = false;

  constructor(readonly socket: Socket) {
    socket.on("end", () => {
      this.hasEnded = true;
    });
    socket.on("close", () => {
      this.hasClosed = true;
    });
  }

  read(): this {
    this.socket.on("data", (bytes: Buffer) => this.parts.push(bytes)).resume();
    return this;
  }

  get heard(): Buffer {
    return Buffer.concat(this.parts);
  }

  async hears(byteLength: number): Promise<Buffer> {
    await until(() => this.heard.length >= byteLength, `the host hears ${byteLength} bytes`);
    return this.heard;
  }

  ends(): Promise<unknown> {
    return until(() => this.hasEnded || this.hasClosed, "the host's socket ends");
  }
}
