// What descriptors are called while a service manager keeps them: a file "vringd.N", and the state of a front-end
// "vringd.DEVICE.FRONT-END.state", where DEVICE is the name of one of several devices.

const FILE = /^vringd\.(\d+)$/;
const STATE = /^vringd\.([A-Za-z0-9_.-]+)\.(\d+)\.state$/;

/** The one device of a process. */
export const LONE_DEVICE = "0";

/** Which front-end by its number, of which of the process's devices by its name. */
export interface FrontEndKey {
  readonly device: string;
  readonly frontEnd: number;
}

export function fileName(number: number): string {
  return `vringd.${number}`;
}

/** Undefined for what is none of ours. */
export function fileNumber(name: string): number | undefined {
  const [, number] = FILE.exec(name) ?? [];
  return number === undefined ? undefined : Number(number);
}

export function stateName({ device, frontEnd }: FrontEndKey): string {
  return `vringd.${device}.${frontEnd}.state`;
}

/** The same. */
export function stateKey(name: string): FrontEndKey | undefined {
  const [, device, frontEnd] = STATE.exec(name) ?? [];
  return frontEnd === undefined ? undefined : { device: device!, frontEnd: Number(frontEnd) };
}
