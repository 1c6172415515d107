// Values of options that name several things at once.
import * as spec from "../../../../assembly/spec/virtio-vsock.ts";
import type { OptionType } from "../../../options/types.ts";
import { wholeNumber } from "../../../options/types.ts";
import { GROUPS_MAX, type GuestOfMany } from "./guest.ts";

export const CONNECTIONS_MAX = 65536;
const PORTS_MAX = 64;
const GROUP = /^[\w.-]{1,64}$/;

export const guestCid = wholeNumber(spec.VSOCK_CID_GUEST_MIN, spec.VSOCK_CID_RESERVED - 1);
export const connectionCount = wholeNumber(1, CONNECTIONS_MAX);
/** The machine itself, its host, or a guest of its. */
export const machineCid = wholeNumber(1, spec.VSOCK_CID_RESERVED - 1);
/** The last one stands for any (VMADDR_PORT_ANY). */
const port = wholeNumber(0, 0xfffffffe);

export const portList: OptionType<readonly number[]> = {
  takes: `ports, with a + between two, up to ${PORTS_MAX} of them`,
  read: (text) => {
    const ports = text.split("+").map((each) => port.read(each));
    return portList.accepts(ports) ? ports : undefined;
  },
  accepts: (value): value is readonly number[] =>
    Array.isArray(value) &&
    value.length <= PORTS_MAX &&
    value.every((each) => port.accepts(each)) &&
    new Set(value).size === value.length,
};

export const groupList: OptionType<readonly string[]> = {
  takes: `names of groups, with a comma between two, up to ${GROUPS_MAX} of them`,
  read: (text) => {
    const groups = text.split(",");
    return groupList.accepts(groups) ? groups : undefined;
  },
  accepts: (value): value is readonly string[] =>
    Array.isArray(value) && value.length <= GROUPS_MAX && value.every((each) => GROUP.test(each)),
};

/** As an option has it; what is left out follows from other options. */
export type GuestSpec = Omit<GuestOfMany, "maxConnections"> & {
  readonly maxConnections?: number | undefined;
};

const MEMBERS: Readonly<Record<string, [name: keyof GuestSpec, type: Pick<OptionType<unknown>, "read">]>> = {
  uds: ["udsPath", { read: (text) => text || undefined }],
  groups: ["groups", groupList],
  "forward-cid": ["forwardCid", machineCid],
  "forward-listen": ["forwardListen", portList],
  "max-connections": ["maxConnections", connectionCount],
};

export const guestSpec: OptionType<GuestSpec> = {
  takes:
    "CID:SOCKET, and behind it any of :uds=PATH, :groups=NAME,..., :forward-cid=N, :forward-listen=PORT+... and :max-connections=N (paths with a colon go into a file of guests)",
  read: readGuest,
  accepts: (value): value is GuestSpec => typeof value === "object" && value !== null,
};

function readGuest(text: string): GuestSpec | undefined {
  const [cidText = "", socket, ...parts] = text.split(":");
  const cid = guestCid.read(cidText);
  if (cid === undefined || !socket) return undefined;
  const members: Record<string, unknown> = {};
  for (const part of parts) {
    const [, key = "", value = ""] = /^([a-z-]+)=(.*)$/s.exec(part) ?? [];
    const member = Object.hasOwn(MEMBERS, key) ? MEMBERS[key] : undefined;
    if (member === undefined || Object.hasOwn(members, member[0])) return undefined;
    const read = member[1].read(value);
    if (read === undefined) return undefined;
    members[member[0]] = read;
  }
  return { guestCid: cid, socket, ...members };
}
