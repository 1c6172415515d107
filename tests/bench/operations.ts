// `npm run bench -- --grid operations`: what a guest sees of what is done to its running disk: the longest of its requests meanwhile.
import { setTimeout as sleep } from "node:timers/promises";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { endLogging, MigrationLog, startLogging } from "../support/moved-memory.ts";
import { StandingBy } from "../support/standing-by.ts";
import { MIGRATING } from "../support/two-processes.ts";
import { UpgradedDaemon } from "../support/upgraded.ts";
import { describeMachine } from "./machine.ts";
import { spreadOf } from "./statistics.ts";

const MIB = 2 ** 20;
const DISK_BYTES = 64 * MIB;
const DEPTH = 8;
const BLOCK_SECTORS = 8;
/** So long a load goes on before and after, so that what an operation leaves behind counts, too. */
const AROUND_MS = 50;
const PAUSE_MS = 20;
const GUEST_END = 2 ** 36;
const PLUGGED = { gpa: 2 ** 35, byteLength: MIB, userAddress: 0x5500_0000_0000 };

interface Disk {
  upgraded: UpgradedDaemon;
  /** Where it has a standby. */
  standing: StandingBy | undefined;
  frontEnd: FrontEnd;
}

interface Operation {
  name: string;
  hasStandby?: true;
  run: (disk: Disk) => Promise<unknown>;
}

const OPERATIONS: readonly Operation[] = [
  { name: "nothing, for 20 ms", run: () => sleep(PAUSE_MS) },
  {
    name: "status and stats are read",
    run: async ({ upgraded }) => {
      for (const path of ["/v1/status", "/v1/stats"]) await upgraded.ask("GET", path);
    },
  },
  {
    name: "resize: twice as large",
    run: ({ upgraded }) => command(upgraded, "resize", `--size=${2 * DISK_BYTES}`),
  },
  {
    name: "limits: set, and taken away",
    run: async ({ upgraded }) => {
      await command(upgraded, "limits", "iops-total=1000000");
      await command(upgraded, "limits", "iops-total=0");
    },
  },
  {
    name: "a second front-end connects, asks and leaves",
    run: async ({ upgraded }) => {
      await using other = await FrontEnd.open(upgraded.daemon.socketPath);
      await other.negotiate({ onlyAsks: true });
    },
  },
  { name: "upgrade: another process serves", run: ({ upgraded }) => upgraded.upgrade() },
  { name: "memory hot-plug: a region is added and removed", run: plugMemory },
  { name: "migration: written pages are logged for 20 ms", run: logPages },
  { name: "the VMM's stop and cont", run: stopAndContinue },
  {
    name: "restart: SIGTERM, then the same command",
    run: (disk) => restart(disk, () => disk.upgraded.daemon.stop()),
  },
  {
    name: "crash: SIGKILL, then the same command",
    run: (disk) => restart(disk, () => disk.upgraded.daemon.kill9()),
  },
  {
    name: "crash: SIGKILL, and the standby takes over",
    hasStandby: true,
    run: async ({ upgraded, standing, frontEnd }) => {
      await standing!.kill9();
      await frontEnd.reconnect(upgraded.daemon.socketPath);
    },
  },
];

export async function measureOperations({ rounds }: { rounds: number }): Promise<void> {
  console.log(JSON.stringify(describeMachine()));
  console.log(
    `The longest of the reads of 4 KiB, ${DEPTH} in flight, that an operation meets, in ms; ${rounds} times each`,
  );
  for (const { name, ...operation } of OPERATIONS) {
    const longest: number[] = [];
    for (let round = 0; round < rounds; round++) longest.push(await longestRequest(operation));
    const { median, min, max } = spreadOf(longest);
    console.log(`${name}: ${median.toFixed(1)} (${min.toFixed(1)} to ${max.toFixed(1)})`);
  }
}

/** In milliseconds. Each disk is a new one: no operation inherits what another has left. */
async function longestRequest({ hasStandby, run }: Omit<Operation, "name">): Promise<number> {
  const args = hasStandby ? ["--standby"] : [];
  await using upgraded = await UpgradedDaemon.start({ byteLength: DISK_BYTES, args });
  await using standing = hasStandby ? new StandingBy(upgraded.daemon) : undefined;
  await using frontEnd = await FrontEnd.connect(upgraded.daemon.socketPath, { ...MIGRATING, inflight: true });
  await standing?.standby();
  const load = new Load(frontEnd);
  await sleep(AROUND_MS);
  load.longestMs = 0;
  await run({ upgraded, standing, frontEnd });
  await sleep(AROUND_MS);
  await load.end();
  return load.longestMs;
}

/** Random reads, as many in flight as DEPTH says, until ended. */
class Load {
  longestMs = 0;
  private isOver = false;
  private readonly readers: Promise<void>[];

  constructor(private readonly frontEnd: FrontEnd) {
    this.readers = Array.from({ length: DEPTH }, () => this.read());
  }

  async end(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.readers);
  }

  private async read(): Promise<void> {
    const disk = this.frontEnd.disk();
    const blocks = Math.floor(this.frontEnd.capacity / BLOCK_SECTORS);
    while (!this.isOver) {
      const begin = performance.now();
      await disk.read(Math.floor(Math.random() * blocks) * BLOCK_SECTORS, BLOCK_SECTORS);
      this.longestMs = Math.max(this.longestMs, performance.now() - begin);
    }
  }
}

async function command(upgraded: UpgradedDaemon, name: string, ...args: string[]): Promise<void> {
  await upgraded.ask("POST", "/v1/commands", { command: name, arguments: args });
}

async function plugMemory({ frontEnd }: Disk): Promise<void> {
  const region = frontEnd.memory.add(PLUGGED);
  await accepted(frontEnd.addMemReg(region.description, region.fd));
  await accepted(frontEnd.remMemReg(region.description));
  frontEnd.memory.remove(region);
}

async function logPages({ frontEnd }: Disk): Promise<void> {
  const log = new MigrationLog(GUEST_END);
  await startLogging(frontEnd, log);
  await sleep(PAUSE_MS);
  await endLogging(frontEnd);
  log.close();
}

async function stopAndContinue({ frontEnd }: Disk): Promise<void> {
  const base = await frontEnd.stopQueue(0);
  await frontEnd.startQueue(0, base);
}

async function restart({ upgraded, frontEnd }: Disk, end: () => Promise<unknown>): Promise<void> {
  await end();
  await Promise.all([upgraded.daemon.restart(), frontEnd.reconnect(upgraded.daemon.socketPath)]);
}

async function accepted(answer: Promise<bigint>): Promise<void> {
  const value = await answer;
  if (value !== 0n) throw new Error(`A request about memory was answered with ${value}.`);
}
