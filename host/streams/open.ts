// Ways to the host side of a stream: sockets that listen, pseudo-terminals, files, and the program's own standard streams.

import { once } from "node:events";
import { closeSync, createWriteStream, lstatSync, symlinkSync, unlinkSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { finished } from "node:stream/promises";
import { reasonOf, StartError } from "../errors.ts";
import { DescriptorStream } from "../linux/descriptor-stream.ts";
import { openPty, windowSize } from "../linux/pty.ts";
import { isHungUp } from "../linux/readiness.ts";
import { listenPrivately } from "../protocol/private-socket.ts";
import { HostSide } from "./host-side.ts";
import type { HostTarget } from "./target.ts";

/** How often to look at a pseudo-terminal, which tells nobody that it was opened or resized. */
const LOOK_MS = 100;

type Close = () => void | Promise<void>;

/** A host side for each target. Throws StartError; nothing is left open then. */
export async function openHostSides(targets: readonly HostTarget[]): Promise<HostSide[]> {
  const sides: HostSide[] = [];
  try {
    for (const target of targets) sides.push(await openHostSide(target));
    return sides;
  } catch (error) {
    await Promise.all(sides.map((side) => side.close()));
    throw error;
  }
}

/** A host side that whoever comes this way joins, until it is closed. Throws StartError. */
export async function openHostSide({ kind, where }: HostTarget): Promise<HostSide> {
  const side = new HostSide();
  try {
    side.closeWay = await OPEN[kind](where, side);
    return side;
  } catch (error) {
    if (error instanceof StartError) throw error;
    throw new StartError(`can't open ${kind}:${where}: ${reasonOf(error)}`, error);
  }
}

const OPEN: Readonly<Record<HostTarget["kind"], (where: string, side: HostSide) => Promise<Close>>> = {
  async unix(path, side) {
    const server = serverFor(side);
    const remove = await listenPrivately(server, path);
    return () => {
      remove();
      server.close();
    };
  },

  async tcp(address, side) {
    const [, host, number] = /^(.*):(\d+)$/.exec(address)!;
    const server = serverFor(side).listen({ host: host!, port: Number(number) });
    await once(server, "listening");
    return () => {
      server.close();
    };
  },

  async file(path, side) {
    const output = createWriteStream(path, { flags: "a", mode: 0o600 });
    await once(output, "open");
    side.join({ output });
    // A guest's last words are wanted most.
    return async () => {
      output.end();
      await finished(output).catch(() => {});
    };
  },

  async stdio(_, side) {
    const { stdin, stdout } = process;
    const follow = () => side.resize({ cols: stdout.columns, rows: stdout.rows });
    if (stdout.isTTY) follow();
    stdout.on("resize", follow);
    side.join({ input: stdin, output: stdout });
    return () => {
      stdin.destroy();
    };
  },

  /** Only a terminal comes here, beside the way that there is not. */
  async none() {
    return () => {};
  },

  async pty(link, side) {
    const { fd, path } = openPty();
    removeLink(link);
    symlinkSync(path, link);
    let stream: DescriptorStream | undefined;
    let told = { cols: 0, rows: 0 };
    const timer = setInterval(() => {
      const size = windowSize(fd);
      if (size.cols !== 0 && (size.cols !== told.cols || size.rows !== told.rows)) {
        told = size;
        side.resize(size);
      }
      if (stream || isHungUp(fd)) return;
      stream = new DescriptorStream(fd);
      stream.once("close", () => (stream = undefined));
      side.join({ input: stream, output: stream });
    }, LOOK_MS);
    return () => {
      clearInterval(timer);
      stream?.destroy();
      removeLink(link);
      closeSync(fd);
    };
  },
};

function serverFor(side: HostSide): Server {
  return createServer((socket) => side.join({ input: socket, output: socket }));
}

/** What is no link is somebody's. */
function removeLink(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink()) unlinkSync(path);
}
