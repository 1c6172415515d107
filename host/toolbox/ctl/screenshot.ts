// `vringd ctl NAME screenshot`: what a guest's screen shows, as a file.
import { writeFileSync } from "node:fs";
import { reasonOf } from "../../errors.ts";
import type { ListedScreen } from "../../observability/screens.ts";
import { filePath } from "../../process/paths.ts";
import { askControl, ControlError, fetchControl, type Peer } from "../control-client.ts";
import { printJson } from "../terminal.ts";

const STDOUT = 1;

/** `file`: "-" is standard output. `name`: of the screen; the first if left out. Throws ControlError. */
export async function screenshot(
  peer: Peer,
  file: string,
  name: string | undefined,
  isJson: boolean,
): Promise<void> {
  const { screens } = await askControl<{ screens: ListedScreen[] }>(peer, "GET", "/v1/screens");
  const screen = name ?? screens[0]?.name ?? "0";
  const picture = await fetchControl(peer, `/v1/screens/${encodeURIComponent(screen)}`);
  try {
    writeFileSync(file === "-" ? STDOUT : filePath(file), picture);
  } catch (error) {
    throw new ControlError(`can't write ${file}: ${reasonOf(error)}`);
  }
  if (isJson && file !== "-") printJson({ file, screen, bytes: picture.length });
}
