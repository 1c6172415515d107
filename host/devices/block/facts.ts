// What status, metrics and the log say of a disk.
import { resolve } from "node:path";
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import type { Storage } from "../../storage/storage.ts";
import type { DeviceFacts, DeviceGauge } from "../device.ts";
import type { DiskActivation } from "./activation.ts";
import type { DiskSize } from "./disk-size.ts";
import { LIMITED, type LimitValues, limitWord, limitWords } from "./limits.ts";

export function factsOf(
  storage: Pick<Storage, "facts" | "standing">,
  size: Pick<DiskSize, "byteLength">,
  limits: () => LimitValues,
  activation: DiskActivation | undefined,
): DeviceFacts {
  const { name, blockSize, readOnly, direct } = storage.facts;
  const { byteLength } = size;
  const { standing } = storage;
  const sizeBytes = Number(byteLength);
  const set = limitWords(limits());
  return {
    log: { file: name, sectors: String(byteLength / BigInt(SECTOR_SIZE)) },
    status: {
      disk: {
        // Else it names a file here.
        path: standing ? name : resolve(name),
        sizeBytes,
        blockSizeBytes: blockSize,
        readOnly,
        direct,
        ...(activation && { lock: activation.lock }),
        ...standing,
      },
      ...(Object.keys(set).length > 0 && { limits: set }),
    },
    labels: { disk: name },
    gauges: [
      {
        name: "size_bytes",
        help: "Size of the disk.",
        get value() {
          return Number(size.byteLength);
        },
      },
      ...LIMITED.map((limited) => ({
        name: `${limitWord(limited).replace("-", "_")}_limit`,
        help: `What ${limitWord(limited)} allows in a second; 0: all.`,
        get value() {
          return limits()[limited] ?? 0;
        },
      })),
      ...(activation ? [activeGauge(activation)] : []),
      ...(standing ? standingGauges(storage) : []),
      { name: "read_only", help: "Whether the disk is read-only.", value: Number(readOnly) },
    ],
  };
}

function activeGauge(activation: DiskActivation): DeviceGauge {
  return {
    name: "active",
    help: "Whether the disk is this process's, which lets it go when its guest moves to another.",
    get value() {
      return Number(activation.isActive);
    },
  };
}

function standingGauges(storage: Pick<Storage, "standing">): DeviceGauge[] {
  return [
    {
      name: "fenced",
      help: "Whether another has taken the disk, so that all requests fail.",
      get value() {
        return Number(storage.standing!.lock === "fenced");
      },
    },
    {
      name: "silent_seconds",
      help: "For how long requests have waited while the storage answered none.",
      get value() {
        return storage.standing!.silentSeconds;
      },
    },
  ];
}
