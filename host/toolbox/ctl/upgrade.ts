// `vringd ctl NAME upgrade`
import { resolve } from "node:path";
import { askControl, type Peer } from "../control-client.ts";

/** As the control socket answers. */
export interface Upgraded {
  pid: number;
  release: string;
  pauseMs: number;
}

/** A new process has to load, and to open the device: that takes longer than any other answer. */
const TIMEOUT_MS = 90_000;

/** `binary`: a path from here. */
export function upgrade({ socketPath }: Peer, binary: string | undefined): Promise<Upgraded> {
  const body = binary === undefined ? {} : { binary: resolve(binary) };
  return askControl<Upgraded>({ socketPath, timeoutMs: TIMEOUT_MS }, "POST", "/v1/upgrade", body);
}
