// Whether a base is still what it was when an overlay was made over it.
import { resolve } from "node:path";
import type { BlockDisk } from "../../engines/block-disk.ts";
import { StartError } from "../../errors.ts";
import { type CommitMark, halfCommitted } from "../file/commit-mark.ts";
import { FileDisk } from "../file/file-disk.ts";
import type { OverlayHeader } from "./header.ts";

export interface BaseFacts {
  byteLength: bigint;
  /** In ns since 1970; 0: it doesn't tell. */
  changedNs: bigint;
  mark?: CommitMark | undefined;
}

/** For messages. */
export interface Names {
  overlay: string;
  base: string;
}

/** "half-committed": by this overlay, which still shows what it showed before. */
export type Standing = "as-it-was" | "half-committed" | "of-another-size" | "changed" | "anothers-commit";

export function baseFactsOf(base: BlockDisk & { readonly changedNs?: unknown }): BaseFacts {
  const { byteLength, changedNs } = base;
  const mark = base instanceof FileDisk ? base.commitMark : undefined;
  return { byteLength, changedNs: typeof changedNs === "bigint" ? changedNs : 0n, mark };
}

/** What a name stands for from any directory. Undefined for a descriptor of ours, which stands for nothing elsewhere. */
export function lastingName(base: string): string | undefined {
  return /^(?:fd:|\/dev\/fd\/|\/proc\/self\/)/.test(base) ? undefined : resolve(base);
}

/**
 * A commit writes only blocks that the overlay has, so the overlay hides what has become of them. The mark was on the base before
 * the first write: a base without it is as it was, or was changed by others.
 */
export function standingOf(made: OverlayHeader, { byteLength, changedNs, mark }: BaseFacts): Standing {
  if (made.byteLength !== byteLength) return "of-another-size";
  if (mark === undefined) return made.baseChangedNs === changedNs ? "as-it-was" : "changed";
  if (mark.id !== made.commit?.id) return "anothers-commit";
  const { baseChangedNs } = made.commit;
  return baseChangedNs === 0n || baseChangedNs === changedNs ? "half-committed" : "changed";
}

/** Throws StartError for one that is not what it was, commits of this overlay aside. */
export function checkBase(made: OverlayHeader, now: BaseFacts, { overlay, base }: Names): Standing {
  const standing = standingOf(made, now);
  if (standing === "anothers-commit") throw halfCommitted(base, now.mark!);
  const advice = "restore it as it was, or name a new file for the changes";
  if (standing === "of-another-size") {
    const sizes = `${made.byteLength} bytes then, ${now.byteLength} now`;
    throw new StartError(
      `${base} has another size than when ${overlay} was made over it (${sizes}); ${advice}`,
    );
  }
  if (standing === "changed") {
    const accept = `or, if it holds what it held (touch changes no more than its time), accept it: vringd overlay rebase --unsafe ${overlay} ${base}`;
    throw new StartError(
      `${base} has changed${dateOf(now)} since ${overlay} was made over it; ${advice}, ${accept}`,
    );
  }
  return standing;
}

function dateOf({ changedNs }: BaseFacts): string {
  return changedNs === 0n ? "" : ` (${new Date(Number(changedNs / 1_000_000n)).toISOString()})`;
}
