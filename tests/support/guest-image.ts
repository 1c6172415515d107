// What a guest boots from, built of the host's own programs: an initramfs, or a root file system on the disk.
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { DISK, type GuestDevice } from "./guest-device.ts";
import { findProgram, whyNoProgram } from "./skip.ts";

/** Starts what the guest's init has to say to the test, anywhere on a console line. */
export const MARK = "@guest";

/** The shell is not busybox's, which prefers busybox's own blkdiscard; that one cannot write zeroes. */
const PROGRAMS = ["busybox", "dash", "mkfs.ext4", "e2fsck", "blkdiscard"];
const DEVICE_WAIT_TRIES = 100;

export interface Initramfs {
  /** A kernel's directory of modules: the one with modules.dep in it. */
  modulesDirectory: string;
  modules: readonly string[];
  device?: GuestDevice;
  script: string;
  programs?: readonly string[];
  /** Modules that the script loads itself, with parameters: /unloaded/NAME.ko. What they depend on is among the others. */
  unloadedModules?: readonly string[];
  rootFromDisk?: boolean;
}

/** A cpio archive in the newc format. It is not compressed: an emulated CPU unpacks more slowly than QEMU loads. */
export function buildInitramfs(options: Initramfs): Buffer {
  const { device = DISK } = options;
  const tree = programTree(options.programs);
  addFile(tree, "init", initFor(device), 0o755);
  addFile(tree, "guest/main", MAIN);
  addFile(tree, "guest/script", options.script);
  if (options.rootFromDisk) addFile(tree, "guest/root-from-disk", "");
  const modules = [...options.modules, ...device.modules];
  moduleFiles(options.modulesDirectory, modules).forEach((path, index) => {
    const name = `${String(index).padStart(2, "0")}-${basename(path).replace(/\.xz$/, "")}`;
    addFile(tree, `modules/${name}`, readModule(path));
  });
  for (const name of options.unloadedModules ?? []) {
    const path = moduleFiles(options.modulesDirectory, [name]).at(-1)!;
    addFile(tree, `unloaded/${name}.ko`, readModule(path));
  }
  return writeCpio(tree);
}

/** Makes an ext4 disk image with the guest's programs on it, for guests with rootFromDisk. */
export function makeRootImage(path: string, sizeMiB = 128, programs: readonly string[] = []): void {
  const tree = programTree(programs);
  addFile(tree, "sbin/init", "#!/bin/sh\nexec sh /run/guest/main\n", 0o755);
  const directory = mkdtempSync(join(tmpdir(), "vringd-root-"));
  try {
    writeTree(tree, directory);
    execFileSync(requireProgram("mkfs.ext4"), ["-q", "-F", "-d", directory, path, `${sizeMiB}M`]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The reason why no image can be made here. */
export function imageUnavailable(): string | undefined {
  return whyNoProgram("setpriv", ...PROGRAMS);
}

/** The first process. All that MAIN needs is below /run, which moves to the disk's root together with it. */
function initFor({ isThere }: GuestDevice): string {
  return `#!/bin/sh
export PATH=/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
cp -r /guest /run/guest
for module in /modules/*; do [ ! -e "$module" ] || insmod "$module"; done

tries=0
while [ ! ${isThere} ] && [ $tries -lt ${DEVICE_WAIT_TRIES} ]; do sleep 0.1; tries=$((tries + 1)); done

fail() { echo "echo '$1'; exit 1" > /run/guest/script; exec sh /run/guest/main; }
[ ${isThere} ] || fail "No device appeared."
[ -e /guest/root-from-disk ] || exec sh /run/guest/main
mount -t ext4 /dev/vda /root || fail "The disk has no root file system."
for directory in proc sys dev run; do mount --move /$directory /root/$directory; done
exec switch_root /root /sbin/init
`;
}

/**
 * Runs the script. Its helpers:
 *   report KEY VALUE   tells the test a value, in one line
 *   negotiated BIT     prints 1 or 0: whether driver and device agreed on a feature
 *
 * Marks go through /dev/kmsg: the kernel writes its log by whole lines, so neither its own messages nor the
 * script's output can tear one apart.
 */
const MAIN = `export PATH=/sbin:/bin HOME=/run TERM=dumb DISK=/dev/vda
cd /run
stty -echo
mark() { echo "<1>${MARK} $*" > /dev/kmsg; }
report() { mark report "$1=$2"; }
negotiated() { cut -c$(($1 + 1)) /sys/block/vda/device/features; }

mark ready
(set -eu; . /run/guest/script)
status=$?

[ $status = 0 ] || dmesg | tail -n 30
sync
if grep -q '^/dev/vda / ' /proc/mounts; then mount -o remount,ro / || status=1; fi
# Setting the terminal waits until all output has left it.
stty -echo
mark exit $status
poweroff -f
`;

/** Paths have no leading slash. Modes hold the file type; a symbolic link's content is its target. */
type FileTree = Map<string, { mode: number; content: Buffer }>;

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

function addFile(tree: FileTree, path: string, content: string | Buffer, permissions = 0o644): void {
  addDirectory(tree, dirname(path));
  tree.set(path, { mode: S_IFREG | permissions, content: Buffer.from(content) });
}

function addDirectory(tree: FileTree, path: string): void {
  if (path === "." || tree.has(path)) return;
  addDirectory(tree, dirname(path));
  tree.set(path, { mode: S_IFDIR | 0o755, content: Buffer.alloc(0) });
}

function symbolicLink(target: string) {
  return { mode: S_IFLNK | 0o777, content: Buffer.from(target) };
}

function programTree(further: readonly string[] = []): FileTree {
  const tree: FileTree = new Map();
  for (const directory of ["proc", "sys", "dev", "run", "root", "tmp"]) addDirectory(tree, directory);
  addDirectory(tree, "bin");
  const applets = execFileSync(requireProgram("busybox"), ["--list"], { encoding: "utf8" });
  for (const applet of applets.trim().split("\n")) {
    tree.set(`bin/${applet}`, symbolicLink("/bin/busybox"));
  }
  tree.set("bin/sh", symbolicLink("/sbin/dash"));
  for (const name of [...PROGRAMS, ...further]) {
    const path = requireProgram(name);
    // sbin stands before bin, and so before busybox's applets, in the guest's PATH.
    addFile(tree, name === "busybox" ? "bin/busybox" : `sbin/${name}`, readFileSync(path), 0o755);
    for (const library of sharedLibraries(path)) {
      addFile(tree, library.slice(1), readFileSync(library), 0o755);
    }
  }
  return tree;
}

function requireProgram(name: string): string {
  const path = findProgram(name);
  if (path === undefined) throw new Error(`The guest needs ${name}, which is not installed.`);
  return path;
}

export function sharedLibraries(path: string): string[] {
  try {
    const listing = execFileSync("ldd", [path], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    return Array.from(listing.matchAll(/(\/\S+) \(0x/g), ([, library = ""]) => library);
  } catch {
    // ldd fails for a static program.
    return [];
  }
}

/** The files of the modules and of all they depend on, in the order to load them; built-in ones have none. */
function moduleFiles(directory: string, names: readonly string[]): string[] {
  const lines = readFileSync(join(directory, "modules.dep"), "utf8").split("\n");
  const builtIn = readFileSync(join(directory, "modules.builtin"), "utf8").split("\n").map(moduleName);
  const files = new Set<string>();
  for (const name of names.filter((name) => !builtIn.includes(name))) {
    const line = lines.find((line) => moduleName(line.split(":")[0]!) === name);
    if (line === undefined) throw new Error(`${directory} has no module ${name}.`);
    // "path: dependency dependency", each before the ones that it depends on itself.
    for (const path of line.split(/:? /).reverse()) files.add(join(directory, path.replace(/:$/, "")));
  }
  return [...files];
}

function moduleName(path: string): string {
  const name = basename(path).replace(/\.ko(\.xz)?$/, "");
  return name.replaceAll("-", "_");
}

function readModule(path: string): Buffer {
  if (path.endsWith(".xz")) return execFileSync("xz", ["-dc", path], { maxBuffer: 2 ** 26 });
  return readFileSync(path);
}

/** The newc format of cpio(5): a header of 13 numbers, the name, the content, each padded to 4 bytes. */
function writeCpio(tree: FileTree): Buffer {
  const parts: Buffer[] = [];
  const pad = (byteLength: number) => parts.push(Buffer.alloc(-byteLength & 3));
  const append = (path: string, mode: number, content: Buffer, inode: number) => {
    const linkCount = 1;
    const fields = [inode, mode, 0, 0, linkCount, 0, content.length, 0, 0, 0, 0, path.length + 1, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}${path}\0`;
    parts.push(Buffer.from(header));
    pad(header.length);
    parts.push(content);
    pad(content.length);
  };
  let inode = 1;
  for (const [path, { mode, content }] of tree) append(path, mode, content, inode++);
  append("TRAILER!!!", 0, Buffer.alloc(0), 0);
  return Buffer.concat(parts);
}

function writeTree(tree: FileTree, directory: string): void {
  for (const [path, { mode, content }] of tree) {
    const target = join(directory, path);
    if ((mode & S_IFMT) === S_IFDIR) mkdirSync(target, { recursive: true });
    else if ((mode & S_IFMT) === S_IFLNK) symlinkSync(content.toString(), target);
    else {
      writeFileSync(target, content);
      chmodSync(target, mode & ~S_IFMT);
    }
  }
}
