// `vringd ctl NAME backup FILE`: begins a copy of the disk as it is now; whoever wants to know asks how far it is.
import { isAbsolute } from "node:path";
import type { BackupStatus } from "../../storage/backup/status.ts";
import type { CommandAnswer, DeviceCommand } from "../device.ts";
import type { DiskBackup } from "./backup.ts";

const USAGE = "backup takes the path of a new file, from the root on; or --status, or --cancel";

export function backupCommand(backup: DiskBackup): DeviceCommand {
  return {
    usage: "FILE | --status | --cancel",
    help: "begin a copy of the disk as it is now; how far it is; end it",
    async run(args) {
      const [word] = args;
      if (args.length !== 1 || word === undefined) throw new RangeError(USAGE);
      if (word === "--cancel") await backup.cancel();
      else if (word !== "--status") await start(backup, word);
      return answerOf(backup.status);
    },
  };
}

async function start(backup: DiskBackup, path: string): Promise<void> {
  if (!isAbsolute(path)) throw new RangeError(USAGE);
  await backup.start(path);
}

function answerOf(status: BackupStatus | undefined): CommandAnswer {
  return status === undefined ? { state: "none" } : { ...status };
}
