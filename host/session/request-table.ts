// Every request that the back-end serves, as data: who handles it, what brings it, and what may come along.
import * as codec from "../protocol/codec.ts";
import * as m from "../protocol/messages.ts";
import type { DeviceRequests } from "./device-requests.ts";
import type { LogRequests } from "./log-requests.ts";
import { type MemoryRequests, NO_INFLIGHT } from "./memory-requests.ts";
import { NACK, type Request } from "./request.ts";
import type { RingRequests } from "./ring-requests.ts";
import type { StateRequests } from "./state-requests.ts";

const NO_PAYLOAD = Buffer.alloc(0);
/** An error, and no descriptor with it. */
const STATE_FAILED = codec.encodeU64(0x101n);

export function requestTable(
  device: DeviceRequests,
  memory: MemoryRequests,
  rings: RingRequests,
  log: LogRequests,
  state: StateRequests,
): ReadonlyMap<number, Request> {
  const config = m.VHOST_USER_PROTOCOL_F_CONFIG;
  const inflight = m.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD;
  const slots = m.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS;
  const status = m.VHOST_USER_PROTOCOL_F_STATUS;
  const deviceState = m.VHOST_USER_PROTOCOL_F_DEVICE_STATE;
  const upTo = (most: number) => (count: number) => count <= most;
  return new Map<number, Request>([
    // First, so that what is the protocol's stays the protocol's.
    ...device.ownRequests(),
    [m.VHOST_USER_GET_FEATURES, { handle: (message) => device.getFeatures(message) }],
    [m.VHOST_USER_SET_FEATURES, { handle: (message) => device.setFeatures(message) }],
    [m.VHOST_USER_GET_PROTOCOL_FEATURES, { handle: (message) => device.getProtocolFeatures(message) }],
    [m.VHOST_USER_SET_PROTOCOL_FEATURES, { handle: (message) => device.setProtocolFeatures(message) }],
    [m.VHOST_USER_SET_OWNER, { handle: (message) => codec.decodeNothing(message) }],
    // Deprecated: "back-ends either ignore this message, or use it to disable all rings".
    [m.VHOST_USER_RESET_OWNER, { handle: () => undefined }],
    [
      m.VHOST_USER_RESET_DEVICE,
      { handle: (message) => device.resetDevice(message), feature: m.VHOST_USER_PROTOCOL_F_RESET_DEVICE },
    ],
    [m.VHOST_USER_SET_STATUS, { handle: (message) => device.setStatus(message), feature: status }],
    [m.VHOST_USER_GET_STATUS, { handle: (message) => device.getStatus(message), feature: status }],

    [
      m.VHOST_USER_SET_MEM_TABLE,
      { handle: (message) => memory.setMemTable(message), fds: upTo(m.VHOST_MEMORY_BASELINE_NREGIONS) },
    ],
    [m.VHOST_USER_GET_MAX_MEM_SLOTS, { handle: (message) => memory.getMaxMemSlots(message), feature: slots }],
    [
      m.VHOST_USER_ADD_MEM_REG,
      { handle: (message) => memory.addMemReg(message), feature: slots, fds: (count) => count === 1 },
    ],
    [
      m.VHOST_USER_REM_MEM_REG,
      { handle: (message) => memory.remMemReg(message), feature: slots, fds: upTo(1) },
    ],

    [m.VHOST_USER_GET_QUEUE_NUM, { handle: (message) => rings.getQueueNum(message) }],
    [m.VHOST_USER_SET_VRING_NUM, { handle: (message) => rings.setVringNum(message) }],
    [m.VHOST_USER_SET_VRING_ADDR, { handle: (message) => rings.setVringAddr(message) }],
    [m.VHOST_USER_SET_VRING_BASE, { handle: (message) => rings.setVringBase(message) }],
    [m.VHOST_USER_GET_VRING_BASE, { handle: (message) => rings.getVringBase(message) }],
    [m.VHOST_USER_SET_VRING_KICK, { handle: (message) => rings.setVringKick(message), fds: upTo(1) }],
    [m.VHOST_USER_SET_VRING_CALL, { handle: (message) => rings.setVringCall(message), fds: upTo(1) }],
    [m.VHOST_USER_SET_VRING_ERR, { handle: (message) => rings.setVringErr(message), fds: upTo(1) }],
    [m.VHOST_USER_SET_VRING_ENABLE, { handle: (message) => rings.setVringEnable(message) }],

    // "zero length of payload to indicate an error"
    [
      m.VHOST_USER_GET_CONFIG,
      { handle: (message) => device.getConfig(message), feature: config, failure: NO_PAYLOAD },
    ],
    [
      m.VHOST_USER_SET_CONFIG,
      { handle: (message) => device.setConfig(message), feature: config, isHarmless: true },
    ],
    // A size of 0 says that there is none.
    [
      m.VHOST_USER_GET_INFLIGHT_FD,
      { handle: (message) => memory.getInflightFd(message), feature: inflight, failure: NO_INFLIGHT },
    ],
    [
      m.VHOST_USER_SET_INFLIGHT_FD,
      { handle: (message) => memory.setInflightFd(message), feature: inflight, fds: (count) => count === 1 },
    ],
    // "When VHOST_USER_PROTOCOL_F_LOG_SHMFD is negotiated, the back-end must reply".
    [
      m.VHOST_USER_SET_LOG_BASE,
      {
        handle: (message) => log.setLogBase(message),
        feature: m.VHOST_USER_PROTOCOL_F_LOG_SHMFD,
        fds: (count) => count === 1,
        failure: NACK,
      },
    ],
    [m.VHOST_USER_SET_LOG_FD, { handle: (message) => log.setLogFd(message), fds: upTo(1) }],
    [
      m.VHOST_USER_SET_DEVICE_STATE_FD,
      {
        handle: (message) => state.setDeviceStateFd(message),
        feature: deviceState,
        fds: (count) => count === 1,
        failure: STATE_FAILED,
      },
    ],
    [
      m.VHOST_USER_CHECK_DEVICE_STATE,
      { handle: (message) => state.checkDeviceState(message), feature: deviceState, failure: NACK },
    ],
    [
      m.VHOST_USER_SET_BACKEND_REQ_FD,
      {
        handle: (message) => device.setBackendReqFd(message),
        feature: m.VHOST_USER_PROTOCOL_F_BACKEND_REQ,
        fds: (count) => count === 1,
      },
    ],
  ]);
}
