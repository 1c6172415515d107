// How large an RBD image is, and who says so: anybody may resize it (`rbd resize`).
import { reasonOf, StartError } from "../../errors.ts";
import type { RbdImage } from "../../linux/librbd.ts";
import type { Log } from "../../process/log.ts";
import { recordServedRaw } from "../file/raw-record.ts";
import type { Sizing, StorageFacts } from "../storage.ts";
import type { Cluster } from "./cluster.ts";

/** In whole blocks. Throws StartError if there is none. */
export function servedLength(uri: string, byteLength: bigint, blockSize: number, log: Log): bigint {
  const served = wholeBlocks(byteLength, blockSize);
  if (served === 0n)
    throw new StartError(`${uri} has ${byteLength} bytes, less than one block of ${blockSize}`);
  const rest = Number(byteLength - served);
  if (rest > 0) log.warn({ file: uri, bytes: rest }, "the image ends within a block, which is not served");
  return served;
}

/** The one who has the lock, us, does what is asked for, and is told. */
export function sizingOf(
  image: RbdImage,
  cluster: Cluster,
  facts: StorageFacts,
  parts: readonly string[],
  log: Log,
): Sizing {
  const measure = async () => wholeBlocks(await measured(image, cluster), facts.blockSize);
  return {
    measure,
    async onChange(changed) {
      const result = await image.watchUpdates(changed);
      if (result < 0) log.warn({ file: facts.name, reason: reasonOf({ errno: result }) }, UNTOLD);
    },
    taken() {
      // What is served raw is known by its size, too.
      if (facts.readOnly) return;
      const record = (byteLength: bigint) => recordServedRaw({ byteLength, identity: { parts, bornNs: 0n } });
      measure().then(record, () => {});
    },
  };
}

const UNTOLD = "the cluster does not tell of changes of the image";

function wholeBlocks(byteLength: bigint, blockSize: number): bigint {
  return byteLength - (byteLength % BigInt(blockSize));
}

/** Rejects with a RangeError. */
async function measured(image: RbdImage, cluster: Cluster): Promise<bigint> {
  const byteLength = await cluster.answer(image.byteLength()).catch((error) => {
    throw new RangeError((error as Error).message);
  });
  if (byteLength >= 0n) return byteLength;
  throw new RangeError(`the cluster does not tell its size: ${reasonOf({ errno: Number(byteLength) })}`);
}
