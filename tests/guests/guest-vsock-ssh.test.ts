// ssh(1) and scp(1) into a guest that has no network, by `vringd vsock connect`.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { limitTests } from "../support/bounded-test.ts";
import { type GuestProcess, QEMUS, qemuUnavailable, umlUnavailable } from "../support/guest.ts";
import { reachGuest, startVsock, startVsockQemu, startVsockUml, udsOf } from "../support/guest-vsock.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { TOOLBOX } from "../support/toolbox.ts";
import type { Vringd } from "../support/vringd.ts";

const LIMIT_MS = 600_000;
limitTests(LIMIT_MS);

const run = promisify(execFile);

const SSH_PORT = 22;
const FILE_BYTES = 4 << 20;
const PROGRAMS = ["socat", "dropbear", "dropbearkey", "scp"];
const OF_THE_HOST = ["socat", "ssh", "scp", "ssh-keygen", "dropbear"];

type Start = (daemon: Vringd) => GuestProcess | Promise<GuestProcess>;

/** A server for whoever has the key, with one process a connection. */
function serveSsh(guest: GuestProcess, publicKey: string): void {
  guest.send(
    "mkdir -p /etc /root/.ssh; echo root:x:0:0:root:/root:/bin/sh > /etc/passwd; " +
      `echo '${publicKey.trim()}' > /root/.ssh/authorized_keys; chmod -R go= /root; ` +
      `dropbearkey -t ed25519 -f host-key > /dev/null 2>&1; ` +
      `socat VSOCK-LISTEN:${SSH_PORT},fork EXEC:"dropbear -i -r host-key" &`,
  );
}

async function carriesSsh(start: Start): Promise<void> {
  await using daemon = await startVsock({ args: ["--log-level=debug"] });
  await using guest = await start(daemon);
  await guest.waitForReport("READY", LIMIT_MS);
  const inDirectory = (name: string) => join(daemon.directory, name);
  const key = inDirectory("key");
  await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
  serveSsh(guest, readFileSync(`${key}.pub`, "utf8"));
  (await reachGuest(daemon, SSH_PORT)).destroy();

  const options = [
    `ProxyCommand=${process.execPath} ${TOOLBOX} vsock connect ${udsOf(daemon)} ${SSH_PORT}`,
    `IdentityFile=${key}`,
    `UserKnownHostsFile=${inDirectory("known-hosts")}`,
    "StrictHostKeyChecking=accept-new",
    "IdentitiesOnly=yes",
    "BatchMode=yes",
    "ConnectTimeout=300",
  ].flatMap((option) => ["-o", option]);
  const inGuest = async (command: string) => {
    const { stdout } = await run("ssh", ["-F", "none", ...options, "root@guest", command]);
    return stdout.trim();
  };
  assert.equal(await inGuest("echo $((6 * 7)); cat /proc/sys/kernel/ostype"), "42\nLinux");

  const there = inDirectory("there");
  const back = inDirectory("back");
  writeFileSync(there, randomBytes(FILE_BYTES));
  // -O: dropbear has no server of the newer protocol of its own.
  const copy = (from: string, to: string) => run("scp", ["-O", "-q", "-F", "none", ...options, from, to]);
  await copy(there, "root@guest:file");
  assert.equal(await inGuest("wc -c < /root/file"), String(FILE_BYTES));
  await copy("root@guest:file", back);
  assert.ok(readFileSync(back).equals(readFileSync(there)));

  guest.send("end");
  const { ok, console } = await guest.exit();
  assert.ok(ok, console);
  assert.deepEqual(daemon.linesLike(/ (warn|error) /), []);
}

const needed = whyNoProgram(...OF_THE_HOST);
const [qemu] = QEMUS;

const optionsOf = ({ socketPath, directory }: Vringd) => ({
  socketPath,
  directory,
  programs: PROGRAMS,
  timeoutMs: LIMIT_MS - 10_000,
});

describe(`a guest of QEMU of ${qemu!.owner}`, { skip: skipWithout(qemuUnavailable(qemu!), needed) }, () => {
  test("is reached by ssh, and files are copied into it and out of it", () =>
    carriesSsh((daemon) => startVsockQemu(qemu!, optionsOf(daemon))));
});

describe("a guest of user-mode-linux", { skip: skipWithout(umlUnavailable(), needed) }, () => {
  test("is reached by ssh, and files are copied into it and out of it", () =>
    carriesSsh((daemon) => startVsockUml(optionsOf(daemon))));
});
