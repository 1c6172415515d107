// A new overlay.
import { reasonOf, StartError } from "../../errors.ts";
import { DiskFile } from "../file/disk-file.ts";
import { makeFile } from "../new-file.ts";
import { HEADER_BYTES, layoutOf } from "./format.ts";
import { encodeHeader, type OverlayHeader } from "./header.ts";

/** Returns if another process was quicker: then there is the other's. Throws StartError, with nothing left behind. */
export async function makeOverlay(path: string, header: OverlayHeader): Promise<void> {
  const { workingMap, mapBytes, fileBytes } = layoutOf(header.byteLength);
  try {
    await makeFile(path, async (file) => {
      await file.truncate(fileBytes);
      // So that setting a bit never lacks space.
      await new DiskFile(file.fd).reserve(workingMap, 2 * mapBytes);
      await file.write(encodeHeader(header), 0, HEADER_BYTES, 0);
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return;
    throw new StartError(`can't make the overlay ${path}: ${reasonOf(error)}`, error);
  }
}
