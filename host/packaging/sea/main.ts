// The single executable: all programs, told apart by the name that it was called by. Any other name is the first device's.
import { basename } from "node:path";
import { DEFAULT_TYPE, DEVICES } from "../../devices/index.ts";
import { startDevice, startToolbox } from "../../programs/entry.ts";
import { startRenderer } from "../../renderer/start.ts";

const TOOLBOX = "vringd";
/** What its device starts, not a user. */
const RENDERER = "vringd-renderer";

// Until entry.ts listens to it: by itself Node opens a debugger, which runs code for every user of this machine.
process.on("SIGUSR1", () => {});
start(basename(process.argv0));

async function start(name: string): Promise<void> {
  if (name === TOOLBOX) return startToolbox(TOOLBOX);
  if (name === RENDERER) return startRenderer();
  const types = Object.keys(DEVICES);
  const names = await Promise.all(types.map(async (type) => (await DEVICES[type]!()).name));
  const type = types[names.indexOf(name)] ?? DEFAULT_TYPE;
  return startDevice((await DEVICES[type]!()).name, type);
}
