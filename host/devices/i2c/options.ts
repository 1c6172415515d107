// The program vringd-i2c: what it says of itself, and its options.
import * as spec from "../../../assembly/spec/virtio-i2c.ts";
import { deviceList, emulatedChip } from "../../buses/target.ts";
import { optionList, UsageError } from "../../options/option.ts";
import { featureMask } from "../../protocol/feature-bits.ts";
import { deviceProgram } from "../program.ts";

export const FEATURE_NAMES = { [spec.VIRTIO_I2C_F_ZERO_LENGTH_REQUEST]: "VIRTIO_I2C_F_ZERO_LENGTH_REQUEST" };
export const FEATURES = featureMask([spec.VIRTIO_I2C_F_ZERO_LENGTH_REQUEST]);

export const program = deviceProgram({
  name: "vringd-i2c",
  description: "Gives a virtual machine an I2C bus, over vhost-user.",
  capabilities: { type: "i2c" },
  options: {
    deviceList: optionList({
      type: deviceList,
      value: "BUS:ADDRESS[:ADDRESS...]",
      help: "what is at these addresses of the host's bus /dev/i2c-BUS, or of the one whose adapter has this name; more buses follow behind commas",
    }),
    emulate: optionList({
      type: emulatedChip,
      value: "CHIP:ADDRESS[,...]",
      help: "a chip of our own: at24:ADDRESS,file=PATH,size=BYTES is an EEPROM, lm75:ADDRESS[,temperature=CELSIUS] a thermometer",
    }),
  },
  traits: {
    hasQueues: (count) => count === 1,
    featureNames: FEATURE_NAMES,
    requiredFeatures: FEATURES,
    configBytes: 0,
  },
  async open({ deviceList: lists, emulate }) {
    if (lists.length + emulate.length === 0)
      throw new UsageError("there is nothing on the bus: give --device-list or --emulate");
    const [{ I2cDevice }, { openBuses }] = await Promise.all([
      import("./device.ts"),
      import("../../buses/open.ts"),
    ]);
    return new I2cDevice(await openBuses(lists.flat(), emulate));
  },
});
