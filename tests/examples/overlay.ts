// Tries an image without changing it: what the guest writes goes to another file. Usage: overlay SOCKET-PATH IMAGE CHANGES
import { argv } from "node:process";
import { OverlayDisk, StartError, serve } from "vringd";

const [, , socketPath = "", base = "", path = ""] = argv;
try {
  const server = await serve({ disk: await OverlayDisk.open({ base, path }), socketPath });
  process.once("SIGINT", () => server.close());
  process.once("SIGTERM", () => server.close());
  console.log("listening");
} catch (error) {
  if (!(error instanceof StartError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
