// `npm run bench`: drives vringd and qemu-storage-daemon through the same front-end, and compares.
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { pinThisThread } from "../support/affinity.ts";
import { allBackEnds } from "./back-ends.ts";
import { type Cell, measureCell, type Pattern } from "./cell.ts";
import { Images, type Place } from "./images.ts";
import { RingDriver } from "./ring-driver.ts";
import type { Manner } from "./round.ts";
import { spreadOf } from "./statistics.ts";

const { values } = parseArgs({
  options: {
    "back-ends": { type: "string", default: "" },
    "poll-us": { type: "string", default: "" },
    rw: { type: "string", default: "randread" },
    bs: { type: "string", default: "4096" },
    depth: { type: "string", default: "32" },
    queues: { type: "string", default: "1" },
    direct: { type: "boolean", default: false },
    packed: { type: "boolean", default: false },
    "no-indirect": { type: "boolean", default: false },
    segments: { type: "string", default: "1" },
    memory: { type: "string", default: "256" },
    place: { type: "string", default: "tmpfs" },
    "front-end": { type: "string", default: "poll" },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "0.7" },
    size: { type: "string", default: "1024" },
    "storage-daemon": { type: "string", multiple: true, default: [] },
  },
});

const cell: Cell = {
  pattern: values.rw as Pattern,
  blockBytes: Number(values.bs),
  depth: Number(values.depth),
  queues: Number(values.queues),
  place: values.place as Place,
  direct: values.direct,
  packed: values.packed,
  indirect: !values["no-indirect"],
  segments: Number(values.segments),
  memoryBytes: Number(values.memory) * 2 ** 20,
  manner: values["front-end"] as Manner,
};

process.on("SIGINT", () => process.exit(130));
const cores = availableParallelism();
const backEndCores = cores > 1 ? Array.from({ length: cores - 1 }, (_, i) => i + 1) : [];
const driver = await RingDriver.load();
if (cores > 1) pinThisThread([0]);
const pollUs = values["poll-us"].split(",").filter(Boolean).map(Number);
const { found, missing } = allBackEnds(pollUs, ["qemu-storage-daemon", ...values["storage-daemon"]]);
for (const program of missing) console.log(`not found: ${program}`);
const wanted = values["back-ends"].split(",").filter(Boolean);
const backEnds = found.filter(
  ({ name }) => wanted.length === 0 || wanted.some((part) => name.includes(part)),
);
const images = new Images(Number(values.size) * 2 ** 20);
const { samples, leftOut } = await measureCell(
  driver,
  backEnds,
  cell,
  images,
  { rounds: Number(values.rounds), seconds: Number(values.seconds) },
  backEndCores,
);
for (const [name, reason] of Object.entries(leftOut)) console.log(`${name} ${reason}`);
console.log("back-end                 IOPS   (min - max)        p50 us   p99 us  CPU us/rq  kicks/rq fail");
for (const [name, list] of Object.entries(samples)) {
  const of = (key: keyof (typeof list)[0]) => spreadOf(list.map((sample) => sample[key]));
  const iops = of("iops");
  console.log(
    name.padEnd(22),
    iops.median.toFixed(0).padStart(7),
    `(${iops.min.toFixed(0)} - ${iops.max.toFixed(0)})`.padEnd(18),
    of("p50Us").median.toFixed(1).padStart(8),
    of("p99Us").median.toFixed(1).padStart(8),
    of("cpuUs").median.toFixed(2).padStart(9),
    of("kicksPerRequest").median.toFixed(3).padStart(9),
    of("failures").max,
  );
}
process.exit();
