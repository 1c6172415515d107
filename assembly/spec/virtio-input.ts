// The input device (virtio 1.4, 5.8). Shared with tests: numbers only.

export const VIRTIO_ID_INPUT = 18;

/** struct virtio_input_config: select u8, subsel u8, size u8, 5 reserved bytes, and what was asked for. */
export const INPUT_CONFIG_SIZE = 136;
export const INPUT_CONFIG_SELECT = 0;
export const INPUT_CONFIG_SUBSEL = 1;
export const INPUT_CONFIG_LENGTH = 2;
export const INPUT_CONFIG_ANSWER = 8;
export const INPUT_CONFIG_ANSWER_SIZE = 128;

/** What `select` asks for. */
export const VIRTIO_INPUT_CFG_ID_NAME = 0x01;
export const VIRTIO_INPUT_CFG_ID_SERIAL = 0x02;
export const VIRTIO_INPUT_CFG_ID_DEVIDS = 0x03;
export const VIRTIO_INPUT_CFG_PROP_BITS = 0x10;
export const VIRTIO_INPUT_CFG_EV_BITS = 0x11;
export const VIRTIO_INPUT_CFG_ABS_INFO = 0x12;

/** struct virtio_input_event: type u16, code u16, value u32. */
export const INPUT_EVENT_SIZE = 8;
