// The renderer's process, as its device starts it: with a socket for frames and one for descriptors.
const FRAMES_FD = 3;
const DESCRIPTORS_FD = 4;

export async function startRenderer(): Promise<void> {
  // A terminal's signals are for its device, which ends it.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"] as const)
    process.on(signal, () => {});
  const [{ dependOnParent }, { RendererService }] = await Promise.all([
    import("../linux/dependent-process.ts"),
    import("./service.ts"),
  ]);
  dependOnParent();
  new RendererService(FRAMES_FD, DESCRIPTORS_FD);
}
