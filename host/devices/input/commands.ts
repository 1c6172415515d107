// What an operator can do at the device in the guest's place: type, press keys, point.
import { setTimeout as sleep } from "node:timers/promises";
import type { Groups } from "../../input/groups.ts";
import type { Lights } from "../../input/lights.ts";
import { chord, moving, typing } from "../../input/strokes.ts";
import { hasEvent, type InputDescription, type InputEvent } from "../../linux/evdev.ts";
import { nameOf } from "../../linux/input-event-codes.ts";
import type { DeviceCommand } from "../device.ts";

/** Between groups: a reader in the guest is to keep up, for whom Linux keeps 64 events. */
const PAUSE_MS = 2;
/** What can be typed while the operator waits. */
const TEXT_MAX = 500;

export function inputCommands(
  groups: Groups,
  description: InputDescription,
  lights: Lights,
): Record<string, DeviceCommand> {
  async function send(events: readonly (readonly InputEvent[])[]): Promise<undefined> {
    const lack = events.flat().find((event) => !hasEvent(description, event));
    if (lack) throw new RangeError(`the device has no ${nameOf(lack.type, lack.code)}`);
    for (const group of events) {
      if (!groups.isTaken) throw new RangeError("no driver is there to take events");
      if (!groups.insert(group)) throw new RangeError("the driver does not take its events");
      await sleep(PAUSE_MS);
    }
  }
  return {
    type: {
      usage: "TEXT",
      help: `type up to ${TEXT_MAX} characters on a keyboard of the USA`,
      run([text = "", ...more]) {
        if (text === "" || text.length > TEXT_MAX || more.length > 0)
          throw new RangeError(`type takes one text, of up to ${TEXT_MAX} characters`);
        return send(typing(text));
      },
    },
    key: {
      usage: "KEY[+KEY...]...",
      help: "press and release keys by the kernel's names, such as leftctrl+c",
      run(args) {
        if (args.length === 0) throw new RangeError("key takes names of keys, such as leftctrl+c");
        return send(args.flatMap(chord));
      },
    },
    move: {
      usage: "X Y",
      help: "move a mouse by so many steps, or a tablet to this place",
      run: (args) => send(moving(args, description.axes)),
    },
    click: {
      usage: "[BUTTON]",
      help: "press and release a button, such as right; left if none is named",
      run([button = "left", ...more]) {
        if (more.length > 0) throw new RangeError("click takes the name of one button");
        return send(chord(`btn_${button}`));
      },
    },
    leds: {
      usage: "",
      help: "which lights the guest has turned on",
      run: () => lights.byName,
    },
  };
}
