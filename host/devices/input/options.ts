// The program vringd-input: what it says of itself, and its options.
import { INPUT_CONFIG_ANSWER_SIZE, INPUT_CONFIG_SIZE } from "../../../assembly/spec/virtio-input.ts";
import { flagOf, inGroup, option, toggle, UsageError, type ValuesOf } from "../../options/option.ts";
import { asciiText, oneOf, path } from "../../options/types.ts";
import { deviceProgram } from "../program.ts";

const shown = (what: string) =>
  option({
    type: asciiText(INPUT_CONFIG_ANSWER_SIZE),
    value: "TEXT",
    help: `the ${what} that the guest sees (default: the device's own)`,
  });

export const INPUT_OPTIONS = inGroup("The device", {
  evdevPath: option({
    type: path,
    value: "PATH",
    help: "the guest gets this event device, such as one of /dev/input/by-id, which may be unplugged and come back",
  }),
  noGrab: toggle("leave the events of --evdev-path to the host, too"),
  keyboard: toggle("the guest gets a keyboard, whose keys come from --events and from vringd ctl"),
  mouse: toggle("the same with a mouse"),
  tablet: toggle("the same with a tablet, which says where it points, from 0 to 32767 both ways"),
  events: option({
    type: path,
    value: "PATH",
    help: "events come from this pipe, device or file, or with - from standard input",
  }),
  eventsFormat: option({
    type: oneOf(["text", "virtio", "evdev"]),
    value: "FORMAT",
    help: 'of --events: "text", lines such as EV_KEY KEY_A 1; "virtio", 8 bytes an event; "evdev", 24 bytes, as event devices give them',
    default: "text",
  }),
  name: shown("name"),
  serial: shown("serial number"),
});

export type InputValues = ValuesOf<typeof INPUT_OPTIONS>;

const KINDS = ["evdevPath", "keyboard", "mouse", "tablet"] as const;

function check(values: InputValues): void {
  const given = KINDS.filter((kind) => values[kind]);
  if (given.length === 0)
    throw new UsageError(`what the guest is to have is missing: one of ${KINDS.map(flagOf).join(", ")}`);
  if (given.length > 1)
    throw new UsageError(`${given.map(flagOf).join(" and ")} are two devices: start a program for each`);
  if (values.evdevPath && values.events)
    throw new UsageError("--events is not for --evdev-path, which has events of its own");
}

export const program = deviceProgram({
  name: "vringd-input",
  description: "Gives a virtual machine a keyboard, a mouse or another input device, over vhost-user.",
  capabilities: { type: "input", features: ["evdev-path", "no-grab"] },
  options: INPUT_OPTIONS,
  traits: {
    hasQueues: (count) => count === 2,
    featureNames: {},
    configBytes: INPUT_CONFIG_SIZE,
    isConfig: (bytes) => bytes[0] !== 0 || !bytes.some(Boolean),
  },
  async open(values) {
    check(values);
    return (await import("./device.ts")).InputDevice.open(values);
  },
});
