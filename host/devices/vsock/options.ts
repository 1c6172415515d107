// The program vringd-vsock: what it says of itself, and its options.
import * as spec from "../../../assembly/spec/virtio-vsock.ts";
import { inGroup, option, optionList, UsageError, type ValuesOf } from "../../options/option.ts";
import { path } from "../../options/types.ts";
import { deviceProgram } from "../program.ts";
import { connectionCount, guestCid, guestSpec, machineCid, portList } from "./guests/option-types.ts";

export const FEATURE_NAMES = {
  [spec.VIRTIO_VSOCK_F_STREAM]: "VIRTIO_VSOCK_F_STREAM",
  [spec.VIRTIO_VSOCK_F_SEQPACKET]: "VIRTIO_VSOCK_F_SEQPACKET",
  [spec.VIRTIO_VSOCK_F_NO_IMPLIED_STREAM]: "VIRTIO_VSOCK_F_NO_IMPLIED_STREAM",
};

const OTHERS = "Several guests";

export const VSOCK_OPTIONS = {
  guestCid: option({
    type: guestCid,
    value: "N",
    help: `the guest's context ID (default: ${spec.VSOCK_CID_GUEST_MIN})`,
  }),
  udsPath: option({
    type: path,
    value: "PATH",
    help: "a Unix socket at which this user reaches the guest: who writes CONNECT and a port in a line, and reads OK, is connected; a guest's call of port P goes to whoever listens at PATH_P",
  }),
  forwardCid: option({
    type: machineCid,
    value: "N",
    help: "connect a guest's calls of the host, and of this CID, by the host's AF_VSOCK with this CID: 1 is the host itself, with vsock_loopback; such calls go to no Unix socket",
  }),
  forwardListen: option({
    type: portList,
    value: "PORT+...",
    help: "connect whoever calls the host at these ports by AF_VSOCK with the guest's ports of the same numbers",
  }),
  maxConnections: option({
    type: connectionCount,
    value: "N",
    help: "connections that a guest may have at a time; each takes a descriptor, and 256 KiB while what the guest has sent waits for the host",
    default: 1024,
  }),
  ...inGroup(OTHERS, {
    guest: optionList({
      type: guestSpec,
      value: "GUEST",
      help: "serve a guest of this CID at this socket, CID:SOCKET, once for each guest; :uds=PATH, :groups=A,B, :forward-cid=N, :forward-listen=PORT+... and :max-connections=N may follow; guests that have a group in common reach each other by their CIDs",
    }),
    guestsFile: option({
      type: path,
      value: "FILE",
      help: "serve the guests that this file lists, as JSON",
    }),
  }),
};

export type VsockValues = ValuesOf<typeof VSOCK_OPTIONS>;

export const program = deviceProgram({
  name: "vringd-vsock",
  description:
    "Connects sockets of virtual machines with sockets of their host and of each other, over vhost-user.",
  capabilities: { type: "vsock" },
  options: VSOCK_OPTIONS,
  traits: {
    hasQueues: (count) => count === 2 || count === 3,
    featureNames: FEATURE_NAMES,
    configBytes: spec.VSOCK_CONFIG_SIZE,
    isConfig: isGuestCid,
  },
  files: { guests: async (path) => (await import("./guests/file.ts")).checkGuestsFile(path) },
  members: async (values) => (await import("./guests/members.ts")).membersOf(values),
  async open(values, { ownSockets }) {
    if (values.udsPath === undefined && values.forwardCid === undefined && values.forwardListen === undefined)
      throw new UsageError(
        "--uds-path is missing: the Unix socket by which the host reaches the guest; or --forward-cid, --forward-listen, --guest",
      );
    const { guestCid = spec.VSOCK_CID_GUEST_MIN, guest: _, guestsFile: __, ...choice } = values;
    (await import("./guests/guest.ts")).keepFrom(choice, ownSockets);
    return (await import("./device.ts")).VsockDevice.open({ guestCid, ...choice });
  },
});

/** The upper half is 0, and the lower one is a guest's. */
function isGuestCid(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const cid = view.getUint32(0, true);
  return view.getUint32(4, true) === 0 && cid >= spec.VSOCK_CID_GUEST_MIN && cid < spec.VSOCK_CID_RESERVED;
}
