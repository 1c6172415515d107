// `vringd probe`: asks a back-end for everything that it says of itself.
import {
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_GET_ID,
} from "../../../assembly/spec/virtio-blk.ts";
import { BLOCK_FEATURE_NAMES } from "../../devices/block/feature-names.ts";
import type { DiskFacts } from "../../front-end/disk-facts.ts";
import { type FrontEnd, Refused } from "../../front-end/front-end.ts";
import { Memory } from "../../front-end/memory.ts";
import { TooLate } from "../../front-end/requests.ts";
import { featureNames, protocolFeatureNames } from "../../protocol/feature-names.ts";
import * as m from "../../protocol/messages.ts";
import { withFrontEnd } from "../attach.ts";
import { printJson, printLines } from "../terminal.ts";
import type { ProbeOptions } from "./command.ts";
import { lookForDisk } from "./disk-of.ts";
import { reportAsJson } from "./json.ts";
import { CONFIG_MOST, type FittingType, typesThatFit } from "./types.ts";
import { reportLines } from "./view.ts";

export interface ProbeReport {
  socketPath: string;
  features: bigint;
  featureNames: string[];
  /** Undefined: none are negotiated with this back-end. */
  protocolFeatures: bigint | undefined;
  protocolFeatureNames: string[];
  /** As GET_QUEUE_NUM says; 1 where it can't be asked. */
  queueCount: number;
  /** Undefined: the back-end takes one table of 8 regions. */
  maxMemorySlots: number | undefined;
  offersInflight: boolean;
  device: ProbedDisk | ProbedStranger;
}

export interface ProbedDisk {
  disk: DiskFacts;
  serial: Serial;
}

/** A device of another type: which one, nobody tells. */
export interface ProbedStranger {
  /** Types that it may have, by what can be seen of it. */
  mayBe: readonly FittingType[];
  /** Why it can't be a disk; a phrase. */
  noDisk: string;
  /** As much of its configuration space as it gives; empty if it gives none. */
  config: Buffer;
}

/** The ID string, or why it is not known; a phrase. */
export type Serial = { text: string } | { unknown: string };

export async function probe(socketPath: string, { timeout, json }: ProbeOptions): Promise<void> {
  const place = { socketPath, timeoutMs: timeout * 1000 };
  // A device may want features that are not known here: those are accepted only where a request is made.
  const options = { configSize: 0, onlyAsks: true };
  const report = await withFrontEnd(place, options, (frontEnd) => ask(frontEnd, socketPath));
  if (json) printJson(reportAsJson(report));
  else printLines(reportLines(report));
}

async function ask(frontEnd: FrontEnd, socketPath: string): Promise<ProbeReport> {
  const { backendFeatures, offeredProtocolFeatures } = frontEnd;
  const hasSlots = frontEnd.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
  const maxMemorySlots = hasSlots ? Number(await frontEnd.getMaxMemSlots()) : undefined;
  // Last: the one request to the device may have to wait for another front-end.
  const device = await askDevice(frontEnd);
  return {
    socketPath,
    features: backendFeatures,
    featureNames: featureNames(backendFeatures, ownNamesOf(device)),
    protocolFeatures: offeredProtocolFeatures,
    protocolFeatureNames: protocolFeatureNames(offeredProtocolFeatures ?? 0n),
    queueCount: frontEnd.maxQueues,
    maxMemorySlots,
    offersInflight: frontEnd.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD),
    device,
  };
}

/** Of one of several types that fit, a bit can have several names. */
function ownNamesOf(device: ProbeReport["device"]): Readonly<Record<number, string>> {
  if ("disk" in device) return BLOCK_FEATURE_NAMES;
  return device.mayBe.length === 1 ? device.mayBe[0]!.featureNames : {};
}

async function askDevice(frontEnd: FrontEnd): Promise<ProbeReport["device"]> {
  const config = await readConfig(frontEnd);
  const found = lookForDisk(config, frontEnd.backendFeatures);
  if ("reason" in found) {
    const { maxQueues: queueCount, backendFeatures: features } = frontEnd;
    return { noDisk: found.reason, config, mayBe: await typesThatFit({ queueCount, features, config }) };
  }
  // Its driver reads the capacity there.
  frontEnd.config = config;
  return { disk: found.disk, serial: await askSerial(frontEnd) };
}

/** What a disk has, or else the longest space that is given: some back-ends refuse to read past their device's. */
async function readConfig(frontEnd: FrontEnd): Promise<Buffer<ArrayBuffer>> {
  if (!frontEnd.hasProtocolFeature(m.VHOST_USER_PROTOCOL_F_CONFIG)) return Buffer.alloc(0);
  for (const byteLength of CONFIG_SIZES) {
    const config = await frontEnd.getConfig(0, byteLength);
    if (config !== undefined) return Buffer.from(config);
  }
  return Buffer.alloc(0);
}

/** In bytes: 60 is a disk's in virtio 1.1. Spaces are made of fields of up to 8 bytes. */
const CONFIG_SIZES = [CONFIG_MOST, 56, 48, 40, 36, 32, 28, 24, 20, 16, 12, 8, 4, 2, 1];

const OTHERS = ", perhaps since another front-end is served";

/** The one request that a probe makes: it moves no data of the disk. All else is known by now, so a failure is no end. */
async function askSerial(frontEnd: FrontEnd): Promise<Serial> {
  try {
    await frontEnd.acceptFeatures();
    await frontEnd.shareMemory(new Memory());
    await frontEnd.addQueue();
  } catch (error) {
    const hint = error instanceof TooLate || error instanceof Refused ? OTHERS : "";
    return { unknown: `no queue could be started${hint}: ${(error as Error).message}` };
  }
  try {
    return await requestSerial(frontEnd);
  } finally {
    // Nothing is left running when we go, where the back-end still answers.
    await frontEnd.stopQueue(0).catch(() => undefined);
  }
}

async function requestSerial(frontEnd: FrontEnd): Promise<Serial> {
  const disk = frontEnd.disk();
  disk.requestTimeoutMs = Math.max(1, (frontEnd.deadlineMs - performance.now()) / 2);
  try {
    const { status, data } = await disk.request({ type: VIRTIO_BLK_T_GET_ID, inLength: VIRTIO_BLK_ID_BYTES });
    if (status === VIRTIO_BLK_S_OK) return { text: data.toString("latin1").replace(/\0.*$/s, "") };
    if (status === VIRTIO_BLK_S_UNSUPP) return { unknown: "the back-end does not support the request" };
    return { unknown: `the request ended with status ${status}` };
  } catch (error) {
    return { unknown: (error as Error).message };
  }
}
