// What guests do with the disk. Each script fails by its exit status and reports what the host can compare.
import { VIRTIO_F_RING_PACKED } from "../../assembly/spec/virtqueue.ts";

/** Makes an ext4 file system, fills it, and finds everything again after a check and a new mount. */
export const ext4RoundTrip = `
mkfs.ext4 -q -F "$DISK"
mkdir -p disk
mount -t ext4 "$DISK" disk
cd disk
dd if=/dev/urandom of=random bs=1M count=16 2>/dev/null
cat random random random random > big
dd if=/dev/urandom of=/run/noise bs=3000 count=1 2>/dev/null
noise=$(base64 /run/noise)
mkdir small
number=0
while [ $number -lt 400 ]; do echo "$number $noise" > small/$number; number=$((number + 1)); done
find . -type f | sort | xargs sha256sum > /run/sums
sync
report FILES $(wc -l < /run/sums)
report KIBIBYTES $(du -sk . | cut -f1)
report SHA256 $(sha256sum < /run/sums | cut -d' ' -f1)
cd /run
umount disk
e2fsck -f -n "$DISK"
mount -t ext4 "$DISK" disk
cd disk
sha256sum -c -s /run/sums
cd /run
umount disk
`;

/**
 * Discards and zeroes ranges, and proves that their neighbours stay. What a discarded range reads as is the
 * device's choice, so DISCARD tells it: zeroed, kept or unsupported. WRITE_ZEROES_MAX=0 means that Linux wrote the
 * zeroes itself.
 */
export const discardCheck = `
queue=/sys/block/\${DISK#/dev/}/queue
report DISCARD_MAX $(cat $queue/discard_max_bytes)
report WRITE_ZEROES_MAX $(cat $queue/write_zeroes_max_bytes)
mebibytes() { blockdev --flushbufs "$DISK"; dd if="$DISK" bs=1M skip=$1 count=$2 2>/dev/null | sha256sum; }
dd if=/dev/urandom of="$DISK" bs=1M count=8 conv=fsync 2>/dev/null
zeroes=$(dd if=/dev/zero bs=1M count=2 2>/dev/null | sha256sum)
neighbours="$(mebibytes 0 1) $(mebibytes 3 1) $(mebibytes 6 2)"
before=$(mebibytes 1 2)

if blkdiscard -o 1M -l 2M "$DISK"; then
  case $(mebibytes 1 2) in
    "$zeroes") report DISCARD zeroed ;;
    "$before") report DISCARD kept ;;
    *) report DISCARD garbage; exit 1 ;;
  esac
else
  report DISCARD unsupported
fi

blkdiscard -z -o 4M -l 2M "$DISK"
[ "$(mebibytes 4 2)" = "$zeroes" ]
report WRITE_ZEROES zeroed
[ "$neighbours" = "$(mebibytes 0 1) $(mebibytes 3 1) $(mebibytes 6 2)" ]
report NEIGHBOURS kept
`;

/** Calls fsync this often. FLUSHES is how many flushes the device completed for it by Linux's own count. */
export function flushes(count: number): string {
  return `
flushed() { tr -s ' ' < /sys/block/\${DISK#/dev/}/stat | sed 's/^ //' | cut -d' ' -f16; }
report WRITE_CACHE "$(cat /sys/block/\${DISK#/dev/}/queue/write_cache)"
before=$(flushed)
number=0
while [ $number -lt ${count} ]; do
  dd if=/dev/urandom of="$DISK" bs=4k count=1 seek=$number conv=notrunc,fsync 2>/dev/null
  number=$((number + 1))
done
report FSYNCS $number
report FLUSHES $(($(flushed) - before))
`;
}

/** Counts its boots in a file, on the root file system that it runs from. */
export const bootFromDisk = `
grep -q "^$DISK / ext4 " /proc/mounts
boots=$(($(cat /boots 2>/dev/null || echo 0) + 1))
echo $boots > /boots
sync
report BOOTS $boots
`;

/** Waits for a line on the console before each round of writing and reading back; "end" ends it. */
export const roundsOnDemand = `
round=0
report ROUND $round
while read -r line && [ "$line" != end ]; do
  round=$((round + 1))
  dd if=/dev/urandom of=noise bs=1M count=2 2>/dev/null
  dd if=noise of="$DISK" bs=1M seek=$round conv=notrunc,fsync 2>/dev/null
  blockdev --flushbufs "$DISK"
  dd if="$DISK" bs=1M skip=$round count=2 2>/dev/null | cmp - noise
  report ROUND $round
done
`;

/**
 * Rounds of fio, which verifies what it wrote, until "end" comes over the console. Needs the program fio. Descriptor 3
 * is there because a shell gives a background command no standard input by itself.
 */
function fioUntilEnd(directory: string): string {
  return `
exec 3<&0
(while read -r line && [ "$line" != end ]; do :; done; touch /run/end) <&3 &
round=0
while [ ! -e /run/end ]; do
  rm -f ${directory}/job.*
  fio --name=job --directory=${directory} --numjobs=2 --size=6M --bs=4k --bsrange=4k-64k --rw=randwrite --fsync=40 \
    --ioengine=libaio --iodepth=16 --direct=1 --fallocate=none --refill_buffers=1 \
    --verify=crc32c --verify_fatal=1 --verify_state_save=0 --group_reporting --minimal > fio.out 2>&1 ||
    { cat fio.out; report FIO failed; exit 1; }
  round=$((round + 1))
  report ROUND $round
done
`;
}

/** Writes the disk itself and verifies that, round by round, while the guest is moved; "end" ends it. Needs the program fio. */
export const movedUnderLoad = `
exec 3<&0
(while read -r line && [ "$line" != end ]; do :; done; touch /run/end) <&3 &
round=0
while [ ! -e /run/end ]; do
  fio --name=job --filename="$DISK" --size=2M --bs=4k --bsrange=4k-32k --rw=randwrite --fsync=40 \
    --ioengine=libaio --iodepth=16 --direct=1 --refill_buffers=1 --verify=crc32c --verify_backlog=64 --verify_fatal=1 \
    --verify_state_save=0 --minimal > fio.out 2>&1 || { cat fio.out; report FIO failed; exit 1; }
  round=$((round + 1))
  report ROUND $round
done
if dmesg | grep -E "I/O error|blocked for more"; then exit 1; fi
`;

/** Looks for anything that the kernel had to complain of. */
const noComplaints = `
if dmesg | grep -E "I/O error|EXT4-fs (error|warning)|[Rr]emounting|JBD2.*(error|abort)|blocked for more"; then
  exit 1
fi
`;

/**
 * Keeps an ext4 file system busy until "end" comes over the console. A second boot, after a reset, goes on with the
 * same file system. Needs the program fio.
 */
export const verifiedLoad = `
mkdir -p disk
boot=second
if ! mount -t ext4 "$DISK" disk 2>/dev/null; then
  boot=first
  mkfs.ext4 -q -F "$DISK"
  mount -t ext4 "$DISK" disk
fi
report BOOT $boot
${fioUntilEnd("disk")}grep -q "^$DISK .* ext4 rw" /proc/mounts
umount disk
e2fsck -f -n "$DISK"
${noComplaints}`;

/**
 * Runs from the disk: makes files on the first boot, finds them whole on the second, after a reset, and keeps the file
 * system busy until "end" comes over the console. Needs the program fio on the disk.
 */
export const lifeOnDisk = `
grep -q "^$DISK / ext4 rw" /proc/mounts
report PACKED $(negotiated ${VIRTIO_F_RING_PACKED})
report QUEUES $(ls /sys/block/\${DISK#/dev/}/mq | wc -l)
boot=second
if [ -e /files/sums ]; then
  (cd /files && sha256sum -c -s sums)
else
  boot=first
  mkdir -p /files/small /load
  cd /files
  dd if=/dev/urandom of=random bs=1M count=4 2>/dev/null
  cat random random random random > big
  number=0
  while [ $number -lt 100 ]; do
    dd if=random of=small/$number bs=3000 skip=$number count=1 2>/dev/null
    number=$((number + 1))
  done
  find . -type f | sort | xargs sha256sum > /run/sums
  cp /run/sums sums
  sync
  cd /run
fi
report BOOT $boot
${fioUntilEnd("/load")}
grep -q "^$DISK / ext4 rw" /proc/mounts
${noComplaints}`;

/** Names the guest's source of random numbers, and reads some of it through rngtest. Needs the program rngtest. */
export function randomTest(kibibytes: number): string {
  return `
report CURRENT $(cat /sys/class/misc/hw_random/rng_current)
dd if=/dev/hwrng of=random bs=1k count=${kibibytes} iflag=fullblock 2>/dev/null
report BYTES $(stat -c %s random)
rngtest < random 2>&1 | tr -d ':' | while read -r _ _ _ what count; do
  case $what in successes | failures) report $what $count ;; esac
done
`;
}

/** Copies so much of the guest's source of random numbers to the disk, past its cache. */
export function randomToDisk(kibibytes: number): string {
  return `
dd if=/dev/hwrng of="$DISK" bs=1k count=${kibibytes} iflag=fullblock conv=fsync 2>/dev/null
report COPIED ${kibibytes}
`;
}

/** How long so many bytes take, in hundredths of a second by the guest's clock, after some that don't count. */
export function randomRate({ before, bytes }: { before: number; bytes: number }): string {
  return `
now() { cut -d' ' -f1 /proc/uptime | tr -d .; }
dd if=/dev/hwrng of=/dev/null bs=64 count=${before / 64} iflag=fullblock 2>/dev/null
start=$(now)
dd if=/dev/hwrng of=/dev/null bs=64 count=${bytes / 64} iflag=fullblock 2>/dev/null
report CENTISECONDS $(($(now) - start))
`;
}

/**
 * Reads 256 bytes of random numbers in the background, whenever they come, and meanwhile keeps the disk busy in rounds, until "end"
 * comes over the console. Loads the driver there, too: until Linux 6.2 its registration reads once itself, and waits for the kernel's
 * own thread if that one reads first (add_early_randomness(), reading_mutex).
 */
export const randomInBackground = `
exec 3<&0
insmod /unloaded/virtio_rng.ko &
until [ "$(cat /sys/class/misc/hw_random/rng_current)" = virtio_rng.0 ]; do sleep 0.1; done
dd if=/dev/hwrng bs=64 count=4 iflag=fullblock 2>/dev/null > random &
reader=$!
${roundsOnDemand}
wait $reader
report RANDOM $(od -An -v -tx1 random | tr -d ' \n')
`;
