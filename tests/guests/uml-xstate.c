/*
 * Preloaded into user-mode Linux, which gives a process back the first part of its register state only: that of processors before AMX.
 * The host takes none but the whole (xstateregs_set, arch/x86/kernel/fpu/regset.c), so the rest is what the process has.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static long set_xstate(pid_t pid, const struct iovec *given) {
  static char whole[1 << 16];
  struct iovec xstate = {whole, sizeof whole};
  if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &xstate) < 0) return -1;
  if (given->iov_len > xstate.iov_len) {
    errno = EINVAL;
    return -1;
  }
  memcpy(whole, given->iov_base, given->iov_len);
  return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &xstate);
}

long ptrace(enum __ptrace_request request, ...) {
  static long (*next)(enum __ptrace_request, ...);
  va_list rest;
  va_start(rest, request);
  pid_t pid = va_arg(rest, pid_t);
  void *address = va_arg(rest, void *);
  void *data = va_arg(rest, void *);
  va_end(rest);
  if (request == PTRACE_SETREGSET && (uintptr_t)address == NT_X86_XSTATE) return set_xstate(pid, data);
  if (next == NULL) next = dlsym(RTLD_NEXT, "ptrace");
  return next(request, pid, address, data);
}
