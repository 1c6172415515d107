// The program vringd-rng: what it says of itself, and its options.
import { option, type ValuesOf } from "../../options/option.ts";
import { path, wholeNumber } from "../../options/types.ts";
import { deviceProgram } from "../program.ts";

const MOST = 0x7fffffff;

export const RNG_OPTIONS = {
  source: option({
    type: path,
    value: "PATH",
    help: "where the bytes come from: a device, a pipe or a file, which is read once and in order",
    default: "/dev/urandom",
  }),
  maxBytes: option({
    type: wholeNumber(1, MOST),
    value: "N",
    help: "bytes that a guest gets in a period at the most (default: no limit)",
  }),
  period: option({
    type: wholeNumber(1, MOST),
    value: "MS",
    help: "the period of --max-bytes, in milliseconds",
    default: 65536,
  }),
};

export type RngValues = ValuesOf<typeof RNG_OPTIONS>;

export const program = deviceProgram({
  name: "vringd-rng",
  description: "Gives a virtual machine random numbers, over vhost-user.",
  capabilities: { type: "rng" },
  options: RNG_OPTIONS,
  traits: { hasQueues: (count) => count === 1, featureNames: {}, configBytes: 0 },
  open: async (values) => new (await import("./device.ts")).RngDevice(values),
});
