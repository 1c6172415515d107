// `vringd overlay commit`
import { lastingName } from "../../storage/overlay/base.ts";
import { commit } from "../../storage/overlay/commit.ts";
import { commitTargetOf, openForWork } from "../../storage/overlay/open-for-work.ts";
import { formatBytes } from "../units.ts";
import type { BaseOptions } from "./command.ts";
import { working } from "./working.ts";

/** Resolves with the exit status. */
export function commitOverlay(path: string, options: BaseOptions): Promise<number> {
  const again = `${path} can be served as before; call vringd overlay commit ${path} again to end the commit`;
  const sentences = {
    doing: "committing",
    interrupted: `stopped before the end: ${again}`,
    failed: `the commit of ${path} has not ended (${again})`,
  };
  return working(sentences, async (work) => {
    const files = await openForWork({ ...options, path, writes: "overlay and base", signal: work.signal });
    const { disk, base, basePath } = files;
    try {
      const target = commitTargetOf(base, path);
      const written = await commit({ ...files, baseName: lastingName(basePath), target }, work);
      return `${basePath} has the ${formatBytes(written)} of ${path}, which is empty now.`;
    } finally {
      await disk.close();
    }
  });
}
