// Several socket devices of one neighbourhood in this process, each with a driver of ours.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { type Server, serve } from "vringd";
import * as spec from "../../assembly/spec/virtio-vsock.ts";
import { VsockDevice } from "../../host/devices/vsock/device.ts";
import { PATIENCE, type Patience } from "../../host/devices/vsock/patience.ts";
import { Neighbourhood } from "../../host/devices/vsock/siblings/neighbourhood.ts";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import { connectDevice } from "./chain-driver.ts";
import { GuestStream, VsockGuest } from "./vsock-rig.ts";

const BITS = [spec.VIRTIO_VSOCK_F_STREAM, spec.VIRTIO_VSOCK_F_SEQPACKET];
export const FIRST_CID = 10;

export interface SiblingOptions {
  /** Of each guest. Left out: two of the same group. */
  groups?: readonly (readonly string[])[];
  maxConnections?: number;
  patience?: Partial<Patience>;
  /** Whether drivers offer buffers to receive. */
  isGenerous?: boolean;
}

export interface SiblingGuest {
  readonly cid: number;
  readonly uds: string;
  readonly device: VsockDevice;
  guest: VsockGuest;
  frontEnd: FrontEnd;
  /** A new front-end, with a new driver. */
  attach(): Promise<void>;
}

export async function siblings(t: TestContext, options: SiblingOptions = {}): Promise<SiblingGuest[]> {
  const { groups = [["default"], ["default"]], maxConnections = 1024, patience, isGenerous = true } = options;
  const directory = mkdtempSync(join(tmpdir(), "vringd-siblings-"));
  const neighbours = new Neighbourhood();
  const servers: Server<unknown>[] = [];
  const frontEnds: FrontEnd[] = [];
  t.after(async () => {
    for (const each of frontEnds) each.close();
    for (const each of servers) await each.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const start = async (ofGuest: readonly string[], i: number): Promise<SiblingGuest> => {
    const cid = FIRST_CID + i;
    const uds = join(directory, `uds${i}`);
    const choice = { guestCid: cid, udsPath: uds, maxConnections, groups: ofGuest };
    const device = VsockDevice.open(choice, { ...PATIENCE, ...patience }, neighbours);
    const socketPath = join(directory, `vhost${i}`);
    servers.push(await serve({ device, socketPath }));
    const attach = async () => {
      const frontEnd = await connectDevice(socketPath, {
        bits: BITS,
        queues: 3,
        queueSize: 64,
        configSize: 8,
      });
      frontEnds.push(frontEnd);
      const guest = new VsockGuest(frontEnd, cid);
      if (isGenerous) guest.offer();
      return { frontEnd, guest };
    };
    const one: SiblingGuest = {
      cid,
      uds,
      device,
      ...(await attach()),
      attach: async () => void Object.assign(one, await attach()),
    };
    return one;
  };
  const all: SiblingGuest[] = [];
  for (const [i, ofGuest] of groups.entries()) all.push(await start(ofGuest, i));
  return all;
}

export interface SiblingPair {
  /** At whoever called. */
  readonly near: GuestStream;
  readonly far: GuestStream;
}

/** One guest calls another, which accepts. */
export async function connectSiblings(
  [caller, callee]: readonly SiblingGuest[],
  {
    port = 52,
    guestPort = 4000,
    type = spec.VIRTIO_VSOCK_TYPE_STREAM,
    nearAlloc = 1 << 20,
    farAlloc = 1 << 20,
  } = {},
): Promise<SiblingPair> {
  const near = new GuestStream(caller!.guest, port, guestPort, nearAlloc, callee!.cid);
  const far = new GuestStream(callee!.guest, guestPort, port, farAlloc, caller!.cid);
  await near.say(spec.VIRTIO_VSOCK_OP_REQUEST, { type });
  await far.next(spec.VIRTIO_VSOCK_OP_REQUEST);
  await far.say(spec.VIRTIO_VSOCK_OP_RESPONSE, { type });
  await near.next(spec.VIRTIO_VSOCK_OP_RESPONSE);
  return { near, far };
}

const PART = 32 << 10;

/** Sends all, as far as there is credit; the other side takes what comes and says so. */
export async function carry(from: GuestStream, to: GuestStream, data: Buffer): Promise<Buffer> {
  const before = to.received.length;
  for (let at = 0; at < data.length; ) {
    for (from.look(), to.look(); from.free === 0; from.look(), to.look())
      await to.say(spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
    const part = data.subarray(at, at + Math.min(PART, from.free));
    await from.send(part);
    at += part.length;
  }
  for (const wanted = before + data.length; to.received.length < wanted; ) {
    await to.say(spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
    await to.receives(Math.min(wanted, to.received.length + 1));
  }
  return to.received.subarray(before);
}

/** How many connections a device has. */
export function countOf({
  facts,
}: {
  facts: { gauges: readonly { name: string; value: number }[] };
}): number {
  return facts.gauges.find(({ name }) => name === "connections")!.value;
}
