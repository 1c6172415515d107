// The single executable: all programs, told apart by the name that it was called by. Any other name is the first device's.
import { basename } from "node:path";
import { DEVICES } from "../../devices/index.ts";
import { startDevice, startToolbox } from "../../programs/entry.ts";

const TOOLBOX = "vringd";
const name = basename(process.argv0);

// Until entry.ts listens to it: by itself Node opens a debugger, which runs code for every user of this machine.
process.on("SIGUSR1", () => {});
if (name === TOOLBOX) startToolbox(TOOLBOX);
else startDevice(name in DEVICES ? name : Object.keys(DEVICES)[0]!);
