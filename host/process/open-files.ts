// What is said where no more files can be opened.

export const TOO_MANY_FILES = "too many open files: raise the limit of open files (ulimit -n, LimitNOFILE=)";

export function isTooManyFiles({ code }: NodeJS.ErrnoException): boolean {
  return code === "EMFILE" || code === "ENFILE";
}
