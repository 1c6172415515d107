// Options by the names of the choices that the library has for the same.

/** Where they differ by more than hyphens. */
const OTHERS: Readonly<Record<string, string>> = { path: "blk-file", lockTimeoutMs: "lock-timeout" };

/** "--read-only" for "readOnly"; with a value, "--format=raw". */
export function optionFor(choice: string, value?: string): string {
  const name = OTHERS[choice] ?? choice.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return value === undefined ? `--${name}` : `--${name}=${value}`;
}
