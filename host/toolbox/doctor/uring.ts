// Whether a worker would get its address space and its ring, by making both as a worker does.
import { UringEngine } from "../../engines/uring.ts";
import { reasonOf } from "../../errors.ts";
import { SystemError } from "../../linux/libc.ts";
import { LinearMemory } from "../../memory/linear-memory.ts";
import { workerPtrOf } from "../../memory/worker-part.ts";
import { shownText } from "../../process/shown.ts";
import { type Finding, note, ok, problem } from "./finding.ts";

export function uringFindings(): Finding[] {
  const memory = reserve();
  if (!(memory instanceof LinearMemory)) return [memory];
  return [ok("addresses", "4 GiB can be reserved"), uring(memory)];
}

function reserve(): LinearMemory | Finding {
  try {
    return new LinearMemory(1);
  } catch (error) {
    return problem(
      "addresses",
      `4 GiB can't be reserved: ${reasonOf(error)}`,
      "raise the limit: ulimit -v, LimitAS=",
    );
  }
}

function uring({ wasm, hostAddress }: LinearMemory): Finding {
  try {
    const engine = UringEngine.open(wasm, hostAddress, workerPtrOf(0));
    engine.enter(0, "go-on");
    engine.close();
    return ok("io_uring", `a worker can have ${engine.requestCount} requests in flight`);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const text = `can't be used: ${error.message}, so disks are served with threads, which is slower`;
    return note("io_uring", text, adviceFor(error.code));
  }
}

function adviceFor(code: string): string {
  const disabled = shownText("/proc/sys/kernel/io_uring_disabled").trim();
  if (code === "EPERM" && disabled === "2")
    return "it is turned off: set kernel.io_uring_disabled=0 with sysctl";
  if (code === "EPERM" && disabled === "1")
    return "it is for few: join the group that kernel.io_uring_group names, or set kernel.io_uring_disabled=0";
  if (isFiltered())
    return "a seccomp filter is in place, as containers have: allow io_uring_setup and io_uring_enter in its profile";
  if (code === "EPERM" || code === "EACCES") return "a security module forbids it: look at the kernel's log";
  if (code === "ENOSYS") return "the kernel was built without it";
  if (code === "EINVAL") return "use Linux 6.5 or later, which has IORING_SETUP_NO_MMAP";
  if (code === "ENOMEM") return "raise the limit of locked memory: ulimit -l, LimitMEMLOCK=";
  return "vringd goes on without it";
}

/** "Seccomp: 2" in /proc/self/status: there is a filter (proc(5)). */
function isFiltered(): boolean {
  return /^Seccomp:\s*2$/m.test(shownText("/proc/self/status"));
}
