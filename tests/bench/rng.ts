// `npm run bench -- --grid rng`: bytes a second of random numbers in a guest that has both vringd-rng and QEMU's own virtio-rng, turn by
// turn.
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { QEMUS, type Qemu, qemuUnavailable, runQemuGuest } from "../support/guest.ts";
import { startRng } from "../support/rng.ts";
import { describeMachine } from "./machine.ts";
import { type Spread, spreadOf } from "./statistics.ts";

/** In the order in which QEMU gets them, which is that of Linux' numbers for them. */
const SOURCES = ["vringd-rng", "QEMU's virtio-rng"] as const;

const GUEST_MS_MAX = 600_000;
const DISK_BYTES = 1 << 20;

interface Rounds {
  rounds: number;
  seconds: number;
}

export async function compareRandomNumbers(rounds: Rounds): Promise<void> {
  console.log(JSON.stringify(describeMachine()));
  for (const qemu of QEMUS) {
    const lack = qemuUnavailable(qemu);
    if (lack === undefined) tell(qemu, await measure(qemu, rounds));
    else console.log(`left out: ${lack}`);
  }
}

/** Bytes a second of each source. */
async function measure(qemu: Qemu, { rounds, seconds }: Rounds): Promise<Spread[]> {
  const directory = mkdtempSync(join(tmpdir(), "vringd-bench-"));
  await using daemon = await startRng("/dev/urandom");
  try {
    const imagePath = join(directory, "guest.img");
    writeFileSync(imagePath, "");
    truncateSync(imagePath, DISK_BYTES);
    const { ok, values, console } = await runQemuGuest({
      qemu,
      imagePath,
      script: script(rounds, seconds),
      timeoutMs: GUEST_MS_MAX,
      modules: ["virtio_rng"],
      extraArgs: [
        ...["-chardev", `socket,id=ours,path=${daemon.socketPath}`],
        ...["-device", "vhost-user-rng-pci,chardev=ours"],
        ...["-object", "rng-random,id=theirs,filename=/dev/urandom"],
        ...["-device", "virtio-rng-pci,rng=theirs"],
      ],
    });
    if (!ok) throw new Error(console);
    return SOURCES.map((_, source) =>
      spreadOf(
        Array.from({ length: rounds }, (_, round) => {
          const [bytes, centiseconds] = values.get(`SOURCE_${source}_${round}`)!.split(" ").map(Number);
          return bytes! / (centiseconds! / 100);
        }),
      ),
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** One round of each to learn how many bytes take so long, and then those that count. */
function script(rounds: number, seconds: number): string {
  return `
current=/sys/class/misc/hw_random/rng_current
now() { cut -d' ' -f1 /proc/uptime | tr -d .; }
take() {
  echo virtio_rng.$1 > $current
  [ $(cat $current) = virtio_rng.$1 ]
  start=$(now)
  dd if=/dev/hwrng of=/dev/null bs=1k count=$2 iflag=fullblock 2>/dev/null
  centiseconds=$(($(now) - start))
}
for source in 0 1; do
  take $source 64
  eval count_$source=$((64 * ${Math.round(seconds * 100)} / (centiseconds + 1) + 1))
done
round=0
while [ $round -lt ${rounds} ]; do
  for source in 0 1; do
    eval "count=\\$count_$source"
    take $source $count
    report SOURCE_\${source}_$round "$((count * 1024)) $centiseconds"
  done
  round=$((round + 1))
done
`;
}

function tell(qemu: Qemu, spreads: readonly Spread[]): void {
  console.log(`\nQEMU of ${qemu.owner}: KiB a second in the guest, median (least to most)`);
  for (const [i, { median, min, max }] of spreads.entries())
    console.log(`${SOURCES[i]!.padEnd(18)} ${kib(median).padStart(8)}  (${kib(min)} to ${kib(max)})`);
  console.log(`vringd-rng gives ${(spreads[0]!.median / spreads[1]!.median).toFixed(2)} times as much`);
}

function kib(bytes: number): string {
  return (bytes / 1024).toFixed(1);
}
