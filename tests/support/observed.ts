// A daemon that lets itself be looked at, and one who looks: HTTP over its control socket.
import { mkdtempSync, rmSync } from "node:fs";
import { type IncomingHttpHeaders, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Vringd, type VringdOptions } from "./vringd.ts";

export interface Reply {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
}

const TIMEOUT_MS = 10_000;

export function ask(socketPath: string, method: string, path: string, body?: string): Promise<Reply> {
  return exchange({ socketPath, method, path }, body);
}

export function askPort(port: number, path: string): Promise<Reply> {
  return exchange({ host: "127.0.0.1", port, path });
}

function exchange(options: object, body?: string): Promise<Reply> {
  return new Promise((resolve, reject) => {
    // Node's client sends a body without a length with DELETE and others, which is no HTTP.
    const headers = body === undefined ? {} : { "content-length": Buffer.byteLength(body) };
    const sent = request({ ...options, headers, timeout: TIMEOUT_MS, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part) => {
        text += part;
      });
      response.on("end", () => resolve({ status: response.statusCode!, headers: response.headers, text }));
      response.on("error", reject);
    });
    sent.on("timeout", () => sent.destroy(new Error("no answer")));
    sent.on("error", reject);
    sent.end(body);
  });
}

export class Observed {
  private constructor(
    readonly daemon: Vringd,
    readonly controlSocket: string,
    private readonly directory: string,
  ) {}

  static async start({ args = [], ...options }: VringdOptions = {}): Promise<Observed> {
    const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
    const controlSocket = join(directory, "disk.control");
    try {
      const daemon = await Vringd.start({
        ...options,
        args: [`--control-socket=${controlSocket}`, ...args],
      });
      return new Observed(daemon, controlSocket, directory);
    } catch (error) {
      rmSync(directory, { recursive: true });
      throw error;
    }
  }

  ask(method: string, path: string, body?: string): Promise<Reply> {
    return ask(this.controlSocket, method, path, body);
  }

  // biome-ignore lint/suspicious/noExplicitAny: what is described elsewhere is validated there
  async get(path: string): Promise<any> {
    return JSON.parse((await this.ask("GET", path)).text);
  }

  /** What the operator's command came to: the reply's fields, and its status. */
  // biome-ignore lint/suspicious/noExplicitAny: what is described elsewhere is validated there
  async command(command: string, ...args: readonly string[]): Promise<any> {
    const { status, text } = await this.ask(
      "POST",
      "/v1/commands",
      JSON.stringify({ command, arguments: args }),
    );
    return { status, ...JSON.parse(text) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.daemon[Symbol.asyncDispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
