// What the events of the log's sentences are called, for programs: sentences may be put better, names stay.

const NAMES: Record<string, readonly string[]> = {
  "front-end-connected": ["front-end connected"],
  "front-end-left": ["front-end left"],
  "front-end-switch": ["front-end is served in place of another"],
  "front-end-fault": ["connection closed", "request refused"],
  "ring-broken": ["ring broken"],
  "io-error": [
    "a read failed",
    "more reads failed",
    "a write failed",
    "more writes failed",
    "a flush failed",
    "more flushes failed",
    "a discard failed",
    "more discards failed",
    "a write-zeroes failed",
    "more write-zeroes failed",
  ],
  "nbd-lost": ["NBD server lost; requests wait for it"],
  "nbd-failing": ["NBD server still lost; requests fail until it is back"],
  "nbd-back": ["NBD server back"],
  "disk-taken": ["the disk is taken over"],
  "disk-awaited": ["waiting for the disk, which another process has"],
  "disk-refused": ["rings can't start: the device could not be taken over"],
  "disk-released": ["the disk is let go"],
  "disk-kept": [
    "the disk could not be flushed, so data may be lost: it is not let go",
    "a flush of the disk has failed before, so it is not let go",
    "the disk could not be let go",
  ],
  "disk-fenced": [
    "another client has taken the image, and the cluster takes nothing from this one any more: all requests fail until the daemon is started anew",
  ],
  "cluster-silent": ["the Ceph cluster does not answer; requests wait for it"],
  "cluster-back": ["the Ceph cluster answers again"],
  resized: ["the disk has another size"],
  "write-through": ["write-through is on", "write-through is off"],
  "log-level": ["log level changed"],
  "terminal-attached": ["terminal attached"],
  "terminal-detached": ["terminal detached"],
  upgrading: ["a successor starts"],
  upgraded: ["a successor serves"],
  "upgrade-failed": ["the upgrade failed"],
  "device-added": ["a device is added"],
  "device-removed": ["a device is removed"],
  ready: ["ready"],
  stopping: ["stopping"],
};

/** All names that there are. */
export const EVENT_NAMES = [...Object.keys(NAMES), "log"];

export const NAMED_SENTENCES = Object.values(NAMES).flat();

const nameOf = new Map(
  Object.entries(NAMES).flatMap(([name, sentences]) => sentences.map((each) => [each, name])),
);

/** "log" for what has no name of its own. */
export function eventName(sentence: string): string {
  return nameOf.get(sentence) ?? "log";
}
