// What an overlay and its base make together, as its next user would find it.
import { OverlayDisk } from "../../host/storage/overlay/overlay-disk.ts";

/** Touches nothing, not even the locks. */
export async function readOverlay(path: string, base: string): Promise<Uint8Array<ArrayBuffer>> {
  const disk = await OverlayDisk.open({ path, base, readOnly: true, lock: "off" });
  const bytes = new Uint8Array(Number(disk.byteLength));
  await disk.read(0n, [bytes]);
  await disk.close();
  return bytes;
}
