// Descriptors that a service manager has started this process with (sd_listen_fds(3)): sockets, and what it has kept for a predecessor.

/** The first that is handed down: SD_LISTEN_FDS_START. */
const FIRST_FD = 3;

export interface HandedDescriptor {
  readonly name: string;
  readonly fd: number;
}

/** They are the caller's, who must leave alone what is not for it. Once: those whom we start must not take them for theirs. */
export function handedDescriptors(environment: NodeJS.ProcessEnv = process.env): HandedDescriptor[] {
  const { LISTEN_PID: pid, LISTEN_FDS: count, LISTEN_FDNAMES: names = "" } = environment;
  delete environment.LISTEN_PID;
  delete environment.LISTEN_FDS;
  delete environment.LISTEN_FDNAMES;
  // Else they are a process's that has started this one.
  if (Number(pid) !== process.pid || !/^\d+$/.test(count ?? "")) return [];
  const all = names.split(":");
  return Array.from({ length: Number(count) }, (_, i) => ({ name: all[i] ?? "", fd: FIRST_FD + i }));
}
