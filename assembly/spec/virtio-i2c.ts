// The I2C adapter device (virtio 1.4, 5.16). Shared with tests: numbers only.

export const VIRTIO_ID_I2C_ADAPTER = 34;

/** Bit number. */
export const VIRTIO_I2C_F_ZERO_LENGTH_REQUEST = 0;

/** struct virtio_i2c_out_hdr: addr u16, padding u16, flags u32. */
export const I2C_OUT_HDR_SIZE = 8;

/** Bits of `flags`. */
export const VIRTIO_I2C_FLAGS_FAIL_NEXT = 1;
export const VIRTIO_I2C_FLAGS_M_RD = 2;

/** The last byte that the device writes. */
export const VIRTIO_I2C_MSG_OK = 0;
export const VIRTIO_I2C_MSG_ERR = 1;
