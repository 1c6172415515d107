// The mark on a disk into which an overlay is being committed. Until the commit has ended the disk alone is neither what it was
// nor what it will be: whoever would serve it must know, and so must the overlay, which the changes are not a stranger's to.
import { StartError } from "../../errors.ts";
import { DiskRecord, type RememberedDisk } from "./disk-record.ts";

const RECORD = new DiskRecord("user.vringd.commit", "commits");
/** What an attribute has room for; a longer path is left out. */
const TEXT_MAX = 256;

export interface CommitMark {
  id: string;
  /** The overlay's path, where it was short enough. */
  overlay?: string | undefined;
}

export function readCommitMark(disk: RememberedDisk): CommitMark | undefined {
  const [text] = RECORD.read(disk);
  const [, id, overlay] = /^([0-9a-f]{32})(?: (.+))?$/s.exec(text ?? "") ?? [];
  return id === undefined ? undefined : { id, overlay: overlay && Buffer.from(overlay, "latin1").toString() };
}

/** It is stable then. Throws StartError if there is no place for it. */
export function setCommitMark(disk: RememberedDisk, { id, overlay }: CommitMark, path: string): void {
  const text = Buffer.from(`${id} ${overlay}`).toString("latin1");
  if (!RECORD.write(disk, overlay !== undefined && text.length <= TEXT_MAX ? text : id)) {
    throw new StartError(
      `there is no place to record that a commit into ${path} has begun: no extended attributes, and no state directory`,
    );
  }
  RECORD.sync(disk);
}

/** It is stable then. */
export function clearCommitMark(disk: RememberedDisk): void {
  RECORD.remove(disk);
  RECORD.sync(disk);
}

export function halfCommitted(path: string, { overlay }: CommitMark): StartError {
  const which = overlay === undefined ? "an overlay was" : `${overlay} was`;
  const command = `vringd overlay commit ${overlay ?? "OVERLAY"}`;
  return new StartError(
    `${path} is half of what it will be: ${which} being committed into it; end that with ${command}`,
  );
}
