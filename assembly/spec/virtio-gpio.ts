// The GPIO device (virtio 1.4, 5.18). Shared with tests: numbers only.

export const VIRTIO_ID_GPIO = 41;

/** Bit numbers. */
export const VIRTIO_GPIO_F_IRQ = 0;

/** struct virtio_gpio_config: ngpio u16, padding u16, gpio_names_size u32. */
export const GPIO_CONFIG_SIZE = 8;
export const GPIO_CONFIG_NGPIO = 0;
export const GPIO_CONFIG_NAMES_SIZE = 4;

/** Types of struct virtio_gpio_request: type u16, gpio u16, value u32. */
export const VIRTIO_GPIO_MSG_GET_LINE_NAMES = 1;
export const VIRTIO_GPIO_MSG_GET_DIRECTION = 2;
export const VIRTIO_GPIO_MSG_SET_DIRECTION = 3;
export const VIRTIO_GPIO_MSG_GET_VALUE = 4;
export const VIRTIO_GPIO_MSG_SET_VALUE = 5;
export const VIRTIO_GPIO_MSG_SET_IRQ_TYPE = 6;

/** struct virtio_gpio_response: status u8, value u8. */
export const VIRTIO_GPIO_STATUS_OK = 0;
export const VIRTIO_GPIO_STATUS_ERR = 1;

export const VIRTIO_GPIO_DIRECTION_NONE = 0;
export const VIRTIO_GPIO_DIRECTION_OUT = 1;
export const VIRTIO_GPIO_DIRECTION_IN = 2;

export const VIRTIO_GPIO_IRQ_TYPE_NONE = 0;
export const VIRTIO_GPIO_IRQ_TYPE_EDGE_RISING = 1;
export const VIRTIO_GPIO_IRQ_TYPE_EDGE_FALLING = 2;
export const VIRTIO_GPIO_IRQ_TYPE_EDGE_BOTH = 3;
export const VIRTIO_GPIO_IRQ_TYPE_LEVEL_HIGH = 4;
export const VIRTIO_GPIO_IRQ_TYPE_LEVEL_LOW = 8;

/** struct virtio_gpio_irq_request: gpio u16. */
export const GPIO_IRQ_REQUEST_SIZE = 2;
/** struct virtio_gpio_irq_response: status u8. */
export const VIRTIO_GPIO_IRQ_STATUS_INVALID = 0;
export const VIRTIO_GPIO_IRQ_STATUS_VALID = 1;
