// What sysfs tells of a block device, found by its number: the name and place of its node say nothing of it.
import { readlinkSync } from "node:fs";
import { basename } from "node:path";
import { textOfBytes } from "../process/paths.ts";
import { shownNames, shownText } from "../process/shown.ts";
import type { DeviceNumber } from "./file-status.ts";

/** Where sysfs is; a test has another place. */
const SYS = "/sys";

export class BlockSysfs {
  private readonly directory: string;

  constructor(
    readonly number: DeviceNumber,
    private readonly root = SYS,
  ) {
    this.directory = `${root}/dev/block/${number}`;
  }

  /** Such as "sda1"; its number where sysfs doesn't show it. */
  get name(): string {
    try {
      return basename(readlinkSync(this.directory));
    } catch {
      return this.number;
    }
  }

  /** An attribute's text; undefined where there is none, or nothing in it. */
  attribute(name: string): string | undefined {
    return readText(`${this.directory}/${name}`);
  }

  /** Its number within the disk that it is a partition of. */
  get partitionNumber(): string | undefined {
    return this.attribute("partition");
  }

  /** The disk that it is a partition of. */
  get parent(): BlockSysfs | undefined {
    return this.partitionNumber === undefined ? undefined : this.numbered(this.attribute("../dev"));
  }

  get partitions(): BlockSysfs[] {
    const hasNumber = (name: string) => this.attribute(`${name}/partition`) !== undefined;
    return this.devices(shownNames(this.directory).filter(hasNumber), "");
  }

  /** Devices made on top of it, as device mapper and RAID do. */
  get holders(): BlockSysfs[] {
    return this.devices(shownNames(`${this.directory}/holders`), "holders/");
  }

  /** "none", "host-aware" or "host-managed". A partition has it from its disk. */
  get zoned(): string {
    return this.attribute("queue/zoned") ?? this.attribute("../queue/zoned") ?? "none";
  }

  /** Of a loop device: the file's path. */
  get backingFile(): string | undefined {
    return this.attribute("loop/backing_file");
  }

  private devices(names: readonly string[], below: string): BlockSysfs[] {
    return names.flatMap((name) => this.numbered(this.attribute(`${below}${name}/dev`)) ?? []);
  }

  private numbered(number: string | undefined): BlockSysfs | undefined {
    return number === undefined ? undefined : new BlockSysfs(number, this.root);
  }
}

/** Loop devices that have a file. */
export function loopDevices(root = SYS): BlockSysfs[] {
  return shownNames(`${root}/block`)
    .filter((name) => name.startsWith("loop"))
    .flatMap((name) => readText(`${root}/block/${name}/dev`) ?? [])
    .map((number) => new BlockSysfs(number, root))
    .filter(({ backingFile }) => backingFile !== undefined);
}

/** Undefined for what is empty or not there, as all of sysfs may be in a sandbox. */
function readText(file: string): string | undefined {
  return textOfBytes(Buffer.from(shownText(file), "latin1")).replace(/\n$/, "") || undefined;
}
