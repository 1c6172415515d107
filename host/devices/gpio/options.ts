// The program vringd-gpio: what it says of itself, and its options.
import * as spec from "../../../assembly/spec/virtio-gpio.ts";
import { chipPath, lineNames } from "../../lines/options.ts";
import { option, UsageError, type ValuesOf } from "../../options/option.ts";
import { deviceProgram } from "../program.ts";

export const FEATURE_NAMES = { [spec.VIRTIO_GPIO_F_IRQ]: "VIRTIO_GPIO_F_IRQ" };

export const GPIO_OPTIONS = {
  deviceList: option({
    type: chipPath,
    value: "CHIP",
    help: "give the guest the lines of this GPIO chip, such as /dev/gpiochip0; each chip has a program of its own",
  }),
  lines: option({
    type: lineNames,
    value: "NAME,...",
    help: "give the guest lines of these names that are connected to nothing: vringd ctl NAME set LINE 0|1 sets those that it reads",
  }),
};

export type GpioValues = ValuesOf<typeof GPIO_OPTIONS>;

export const program = deviceProgram({
  name: "vringd-gpio",
  description: "Gives a virtual machine GPIO lines, over vhost-user.",
  capabilities: { type: "gpio" },
  options: GPIO_OPTIONS,
  traits: {
    hasQueues: (count) => count === 2,
    featureNames: FEATURE_NAMES,
    configBytes: spec.GPIO_CONFIG_SIZE,
    isConfig: ([low, high, ...others]) => (low! | high!) !== 0 && others[0] === 0 && others[1] === 0,
  },
  async open(values) {
    if ((values.deviceList === undefined) === (values.lines === undefined))
      throw new UsageError("give either --device-list=/dev/gpiochipN or --lines=NAME,...");
    return (await import("./device.ts")).GpioDevice.open(values);
  },
});
