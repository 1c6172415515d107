// The device that a guest gets from the back-end: how its kernel finds it, and how its init knows that it is there.

export interface GuestDevice {
  readonly virtioId: number;
  readonly modules: readonly string[];
  /** A condition of test(1). */
  readonly isThere: string;
  /** QEMU's front-end for it alone, such as "vhost-user-i2c-pci". */
  readonly frontEnd?: string;
}

export const DISK: GuestDevice = {
  virtioId: 2,
  modules: ["virtio_blk", "ext4"],
  isThere: "-b /dev/vda",
};

export const CONSOLE: GuestDevice = {
  virtioId: 3,
  modules: ["virtio_console"],
  isThere: "-c /dev/hvc0",
};

/** With withGenericKernel(): no kernel of Debian has the driver. */
export const I2C: GuestDevice = {
  virtioId: 34,
  modules: ["i2c_virtio", "i2c_dev"],
  isThere: "-c /dev/i2c-0",
  frontEnd: "vhost-user-i2c-pci",
};

/** With withGenericKernel(): no kernel of Debian has the driver. */
export const GPIO: GuestDevice = {
  virtioId: 41,
  modules: ["gpio_virtio"],
  isThere: "-c /dev/gpiochip0",
  frontEnd: "vhost-user-gpio-pci",
};

export const VSOCK: GuestDevice = {
  virtioId: 19,
  modules: ["vmw_vsock_virtio_transport"],
  isThere: "-c /dev/vsock",
};
