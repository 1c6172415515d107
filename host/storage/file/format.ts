// Formats of disk images, by the bytes that they begin or end with. Nothing is read of what they hold.

export interface ImageFormat {
  /** With its article: "a qcow2 image". */
  name: string;
  /** How the disk in it can be served. */
  remedy: Remedy;
}

/** "nbd": another program serves it to us, as `driver` of qemu-nbd; "unpack": it must become a raw image first. */
export type Remedy = { by: "nbd"; driver: string } | { by: "unpack" } | { by: "overlay" };

interface Signature extends ImageFormat {
  bytes: Buffer;
  /** From the start; negative: from the end. */
  at: number;
}

/** So much of the start, and of the end, is looked at. */
export const SIGNATURE_BYTES = 512;

const binary = (text: string) => Buffer.from(text, "latin1");
const forNbd = (name: string, driver: string, bytes: string, at = 0): Signature => ({
  name,
  remedy: { by: "nbd", driver },
  bytes: binary(bytes),
  at,
});
const packed = (name: string, bytes: string, at = 0): Signature => ({
  name,
  remedy: { by: "unpack" },
  bytes: binary(bytes),
  at,
});

export const LUKS = "a LUKS volume";

const SIGNATURES: readonly Signature[] = [
  forNbd("a qcow image", "qcow", "QFI\xfb\0\0\0\x01"),
  forNbd("a qcow2 image", "qcow2", "QFI\xfb"),
  forNbd("a QED image", "qed", "QED\0"),
  forNbd("a VMDK image", "vmdk", "KDMV"),
  forNbd("a VMDK image", "vmdk", "COWD"),
  forNbd("the description of a VMDK image", "vmdk", "# Disk DescriptorFile"),
  forNbd("a VHDX image", "vhdx", "vhdxfile"),
  forNbd("a VHD image", "vpc", "conectix"),
  forNbd("a VHD image of fixed size", "vpc", "conectix", -512),
  forNbd("a VDI image", "vdi", "\x7f\x10\xda\xbe", 64),
  forNbd("a Parallels image", "parallels", "WithoutFreeSpace"),
  forNbd("a Parallels image", "parallels", "WithouFreSpacExt"),
  forNbd("a Bochs image", "bochs", "Bochs Virtual HD Image"),
  forNbd("a DMG image", "dmg", "koly", -512),
  forNbd(LUKS, "luks", "LUKS\xba\xbe"),
  packed("compressed by gzip", "\x1f\x8b\x08"),
  packed("compressed by xz", "\xfd7zXZ\0"),
  packed("compressed by zstd", "\x28\xb5\x2f\xfd"),
  packed("compressed by bzip2", "BZh91AY&SY"),
  { name: "an overlay of vringd's", remedy: { by: "overlay" }, bytes: binary("VRINGDOV"), at: 0 },
];

/** `end`: the last SIGNATURE_BYTES, where they are the image's. Undefined: nothing speaks against a raw disk. */
export function imageFormatOf(start: Uint8Array, end?: Uint8Array): ImageFormat | undefined {
  return SIGNATURES.find(({ bytes, at }) => {
    const part = at >= 0 ? start.subarray(at) : end?.subarray(end.length + at);
    return part !== undefined && bytes.equals(part.subarray(0, bytes.length));
  });
}
