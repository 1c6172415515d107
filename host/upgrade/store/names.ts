// What descriptors are called while a service manager keeps them: a file "vringd.N", and the state of a front-end
// "vringd.DEVICE.FRONT-END.state".

const FILE = /^vringd\.(\d+)$/;
const STATE = /^vringd\.(\d+)\.(\d+)\.state$/;

/** Which front-end, of which of the process's devices, both as numbers. */
export interface FrontEndKey {
  readonly device: number;
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
  return frontEnd === undefined ? undefined : { device: Number(device), frontEnd: Number(frontEnd) };
}
