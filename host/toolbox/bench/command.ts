// `vringd bench`: its options. What it does is loaded when it is called.
import { type Command, oneOf, wholeNumber } from "../../command-line/program.ts";
import { answerTimeout } from "../probe/command.ts";
import { byteSize } from "../units.ts";

export const PATTERNS = ["read", "write", "rw", "randread", "randwrite", "randrw"] as const;
export type Pattern = (typeof PATTERNS)[number];

export interface BenchOptions {
  rw: Pattern;
  rwmix: number;
  bs: number;
  iodepth: number;
  queues: number;
  seconds: number;
  offset: number;
  /** Left out: up to the end of the disk. */
  size?: number;
  packed?: true;
  sleep?: true;
  seed: number;
  write?: true;
  timeout: number;
  json?: true;
}

/** What the ring driver has memory for (front-end/load/guest-layout.ts). */
const REQUESTS_MAX = 512;
const QUEUES_MAX = 8;
const SECONDS_MAX = 86400;

export function addBench(program: Command): void {
  const command = program
    .command("bench")
    .summary("measure a block back-end under load")
    .description(
      "Puts a load on a vhost-user block back-end, as a guest would, and tells how many requests it serves and how " +
        "long each takes. It only reads unless --rw says otherwise. Ctrl-C ends it early.",
    )
    .argument("<SOCKET>", "the Unix socket at which the back-end listens");
  command
    .optionsGroup("The load:")
    .option("--rw <PATTERN>", `one of ${PATTERNS.join(", ")}`, oneOf(PATTERNS, "--rw"), "randread")
    .option(
      "--rwmix <PERCENT>",
      "reads among the requests of rw and randrw",
      wholeNumber(1, 99, "--rwmix"),
      50,
    )
    .option("--bs <BYTES>", "size of a request, such as 4k; up to 1M", byteSize("--bs"), 4096)
    .option(
      "--iodepth <N>",
      "requests in flight in each queue",
      wholeNumber(1, REQUESTS_MAX, "--iodepth"),
      32,
    )
    .option("--queues <N>", `queues, up to ${QUEUES_MAX}`, wholeNumber(1, QUEUES_MAX, "--queues"), 1)
    .option("--seconds <N>", "how long", wholeNumber(1, SECONDS_MAX, "--seconds"), 10)
    .option(
      "--seed <N>",
      "of the random numbers: the same requests for the same",
      wholeNumber(1, 1e9 - 1, "--seed"),
      1,
    );
  command
    .optionsGroup("Where on the disk:")
    .option("--offset <BYTES>", "leave out so much at the start", byteSize("--offset"), 0)
    .option("--size <BYTES>", "use no more than so much (default: up to the end)", byteSize("--size"))
    .option("--write", "agree that what is written there DESTROYS data; nothing is written without it");
  command
    .optionsGroup("How:")
    .option("--packed", "use packed rings")
    .option("--sleep", "sleep until the back-end calls, as most guests do, rather than look all the time")
    .option(...answerTimeout)
    .option("--json", "print JSON, for programs")
    .addHelpText("after", EXIT_STATUS)
    .action(async (socketPath: string, options: BenchOptions) => {
      const { bench } = await import("./bench.ts");
      process.exitCode = await bench(socketPath, options);
    });
}

const EXIT_STATUS = `
Exit status:
  0    measured for all the time, and every request succeeded
  1    it can't be measured so, or requests failed, or the back-end went away
  2    wrong usage, which is also to write without --write
  130  measured until Ctrl-C; 143 until SIGTERM`;
