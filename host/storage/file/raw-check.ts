// A raw disk is asked for, not guessed: an image of another format is refused, unless we were told or have seen before that
// the bytes are a guest's own.
import { StartError } from "../../errors.ts";
import { choice } from "../../process/choices.ts";
import type { Log } from "../../process/log.ts";
import { type ImageFormat, imageFormatOf, LUKS } from "./format.ts";
import { type RecordedDisk, recordServedRaw, wasServedRaw } from "./raw-record.ts";

export interface RawChoice {
  path: string;
  readOnly: boolean;
  /** "raw": whatever it holds. */
  format?: "raw" | undefined;
  /** Another process has it: nothing is written yet. */
  incoming?: boolean | undefined;
}

export interface RawCandidate extends RecordedDisk {
  start: Uint8Array;
  /** Of an image file: its last bytes. */
  end?: Uint8Array | undefined;
  isBlockDevice?: boolean;
}

/** Throws StartError for what holds another format; records what is served raw for writing. */
export function checkRaw(
  candidate: RawCandidate,
  { path, readOnly, format, incoming }: RawChoice,
  log: Log,
): void {
  const found = format === "raw" ? undefined : imageFormatOf(candidate.start, candidate.end);
  if (found !== undefined && !wasServedRaw(candidate)) {
    // A device that a guest encrypts itself looks so from the first day, and nobody keeps images on devices that way.
    if (!(candidate.isBlockDevice && found.name === LUKS)) throw new StartError(refusal(path, found));
    log.info({ file: path }, "the device holds a LUKS volume, which the guest has to unlock");
  }
  if (readOnly || incoming || recordServedRaw(candidate)) return;
  const advice = `a guest could make it look like an image of another format; give ${choice("format", "raw")}`;
  log.info({ file: path }, `there is no place to record that the disk is raw, so ${advice}`);
}

function refusal(path: string, { name, remedy }: ImageFormat): string {
  const what = `${path} is ${name}, no raw disk`;
  const or = `or say ${choice("format", "raw")} if the guest itself wrote that`;
  if (remedy.by === "unpack") return `${what}: unpack it first, ${or}`;
  if (remedy.by === "overlay")
    return `${what}: give it with ${choice("overlay")}, and its base with ${choice("path")}, ${or}`;
  const server = `qemu-nbd --format=${remedy.driver} --persistent --socket=/run/disk.nbd ${path}`;
  return `${what}: serve it with ${server}, and give ${choice("path", "'nbd+unix:///?socket=/run/disk.nbd'")}, ${or}`;
}
