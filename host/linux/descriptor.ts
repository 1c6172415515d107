// A descriptor in what one process tells another: it goes along with the text (unix(7), SCM_RIGHTS), and has another number there.

export class Descriptor {
  constructor(readonly fd: number) {}
}

/** Of a number that may stand for none. */
export function descriptorOf(fd: number | undefined): Descriptor | undefined {
  return fd === undefined || fd < 0 ? undefined : new Descriptor(fd);
}
