// `vringd overlay rebase`
import { FileDisk } from "../../storage/file/file-disk.ts";
import { accept, checkSize, refuseHalfCommitted } from "../../storage/overlay/accept.ts";
import { lastingName } from "../../storage/overlay/base.ts";
import { openForWork, peekHeader } from "../../storage/overlay/open-for-work.ts";
import { rebase } from "../../storage/overlay/rebase.ts";
import type { Work } from "../../storage/work.ts";
import { formatBytes } from "../units.ts";
import type { RebaseOptions } from "./command.ts";
import { working } from "./working.ts";

/** Resolves with the exit status. */
export function rebaseOverlay(path: string, newBase: string, options: RebaseOptions): Promise<number> {
  const sentences = {
    doing: "comparing",
    interrupted: `stopped before the end: ${path} lies over its former base, and shows what it showed`,
    failed: `${path} lies over its former base, and shows what it showed`,
  };
  return working(sentences, (work) =>
    options.unsafe ? acceptBase(path, newBase, work) : moveOver(path, newBase, options, work),
  );
}

async function acceptBase(path: string, newBase: string, { signal }: Work): Promise<string> {
  await accept({ path, base: newBase, signal });
  return `${path} lies over ${newBase} as it is now.`;
}

async function moveOver(path: string, newBase: string, options: RebaseOptions, work: Work): Promise<string> {
  const { base } = options;
  refuseHalfCommitted(await peekHeader(path), path);
  const next = await FileDisk.open({ path: newBase, readOnly: true, signal: work.signal });
  try {
    const files = await openForWork({ path, base, writes: "overlay", signal: work.signal });
    try {
      refuseHalfCommitted(files.header, path);
      checkSize(next, files.header, newBase, path);
      const identity = { baseChangedNs: next.changedNs, baseName: lastingName(newBase) };
      const copied = await rebase({ ...files, newBase: next, identity }, work);
      return `${path} lies over ${newBase}, and has taken ${formatBytes(copied)} over from ${files.basePath}.`;
    } finally {
      await files.disk.close();
    }
  } finally {
    await next.close();
  }
}
