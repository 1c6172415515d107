#include "embedder.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "wasm-rt-impl.h"

/** Names that the core hands back in SQEs. */
enum { FILE_FD = 1, KICK_FD, CALL_FD, CONTROL_FD };

static const uint64_t NONE = UINT64_MAX;

uint8_t* linear;
unsigned calls;
bool isHolding;
Operation held[REQUESTS];
unsigned heldCount;
int32_t (*onChain)(const Chain* chain);

static wasm_rt_memory_t memory;
static Z_core_instance_t core;
static Disk* disk;
/** The read that waits for a kick, by its user data; or a kick that came before it. */
static uint64_t kickRead;
static bool isKicked;

static uint32_t load32(uint32_t ptr) {
  uint32_t value;
  memcpy(&value, linear + ptr, sizeof value);
  return value;
}

static uint64_t load64(uint32_t ptr) {
  uint64_t value;
  memcpy(&value, linear + ptr, sizeof value);
  return value;
}

static void store32(uint32_t ptr, uint32_t value) { memcpy(linear + ptr, &value, sizeof value); }

static void store64(uint32_t ptr, uint64_t value) { memcpy(linear + ptr, &value, sizeof value); }

_Noreturn void die(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

/** The one thing that the core imports. */
wasm_rt_memory_t* Z_envZ_memory(struct Z_env_instance_t* env) {
  (void)env;
  return &memory;
}

void openMemory(uint32_t pages) {
  wasm_rt_init();
  wasm_rt_allocate_memory(&memory, pages, pages);
  linear = memory.data;
  Z_core_init_module();
}

static void writeEntry(uint32_t entry, const GuestRam* ram, uint64_t target) {
  store64(entry + ENTRY_GPA, ram->gpa);
  store64(entry + ENTRY_LENGTH, ram->byteLength);
  store64(entry + ENTRY_TARGET, target);
}

/** Host addresses are those of this process: the engine is memcpy(). */
static void writeTables(const GuestRam* ram) {
  const uint64_t host = (uint64_t)(uintptr_t)linear;
  const uint32_t sectors = (uint32_t)(disk->byteLength / 512);
  store64(DEVICE_PTR + DEVICE_CAPACITY_SECTORS, sectors);
  store64(DEVICE_PTR + DEVICE_MEMORY_HOST_ADDRESS, host);
  store32(DEVICE_PTR + DEVICE_FILE_FD, FILE_FD);
  store32(DEVICE_PTR + DEVICE_UNALIGNED_FD, FILE_FD);
  store32(DEVICE_PTR + DEVICE_BLOCK_SECTORS, 1);
  store32(DEVICE_PTR + DEVICE_DISCARD_UNMAPS, 1);
  store32(DEVICE_PTR + DEVICE_MAX_DISCARD_SECTORS, sectors);
  store32(DEVICE_PTR + DEVICE_MAX_WRITE_ZEROES_SECTORS, sectors);
  store32(DEVICE_PTR + DEVICE_MAX_RANGES, 1);
  writeEntry(REGION_TABLE_PTR, ram, host + ram->ptr);
  writeEntry(WORKERS_PTR + WORKER_WINDOW_TABLE, ram, ram->ptr);
}

void boot(const GuestRam* ram, Disk* theDisk) {
  disk = theDisk;
  kickRead = NONE;
  isKicked = false;
  heldCount = 0;
  memset(linear + WORKERS_PTR, 0, WORKER_STRIDE);
  writeTables(ram);
  Z_core_instantiate(&core, NULL);
  if (Z_coreZ_abiVersion(&core) >> 16 != ABI_VERSION >> 16) die("a core with another ABI");
  Z_coreZ_attachRings(&core, SQ_HEAD, SQ_TAIL, SQ_FLAGS, SQES, SQ_ENTRIES, CQ_HEAD, CQ_TAIL, CQES, CQ_ENTRIES);
  Z_coreZ_openWorker(&core, 0, 1, REQUESTS, CONTROL_FD);
}

void startRing(const Ring* ring, uint32_t inflight) {
  Z_coreZ_trackInflight(&core, 0, inflight, inflight == 0 ? 0 : ring->size);
  Z_coreZ_startQueue(&core, 0, ring->size, ring->flags, ring->desc, ring->driver, ring->device, ring->base, KICK_FD,
                     CALL_FD);
}

void giveCredit(uint32_t count) { Z_coreZ_addCredit(&core, 0, count); }

uint32_t stopRing(void) {
  Z_coreZ_stopQueue(&core, 0);
  run();
  if (!Z_coreZ_isStopped(&core, 0)) die("the ring has not stopped");
  return Z_coreZ_queueBase(&core, 0);
}

static void complete(uint64_t userData, int32_t result) {
  const uint32_t tail = load32(CQ_TAIL);
  const uint32_t cqe = CQES + tail % CQ_ENTRIES * CQE_SIZE;
  store64(cqe + CQE_USER_DATA, userData);
  store32(cqe + CQE_RES, (uint32_t)result);
  store32(CQ_TAIL, tail + 1);
}

void kick(void) {
  if (kickRead == NONE) {
    isKicked = true;
    return;
  }
  complete(kickRead, 8);
  kickRead = NONE;
}

static int32_t transfer(bool isWrite, uint64_t offset, uint64_t address, uint64_t length) {
  uint8_t* data = (uint8_t*)(uintptr_t)address;
  if (isWrite) memcpy(disk->bytes + offset, data, length);
  else memcpy(data, disk->bytes + offset, length);
  return (int32_t)length;
}

static int32_t transferVectors(bool isWrite, uint64_t offset, uint64_t address, uint32_t count) {
  const struct iovec* vectors = (const struct iovec*)(uintptr_t)address;
  int32_t moved = 0;
  for (uint32_t i = 0; i < count; i++) {
    moved += transfer(isWrite, offset + moved, (uint64_t)(uintptr_t)vectors[i].iov_base, vectors[i].iov_len);
  }
  return moved;
}

static int32_t performChain(const Operation* it) {
  const Chain chain = {(const struct iovec*)(uintptr_t)it->address, it->length, (uint32_t)it->offset, it->flags};
  return onChain(&chain);
}

static int32_t perform(const Operation* it) {
  switch (it->opcode) {
    case OP_CHAIN:
      return performChain(it);
    case IORING_OP_READ:
    case IORING_OP_WRITE:
      return transfer(it->opcode == IORING_OP_WRITE, it->offset, it->address, it->length);
    case IORING_OP_READV:
    case IORING_OP_WRITEV:
      return transferVectors(it->opcode == IORING_OP_WRITEV, it->offset, it->address, it->length);
    case IORING_OP_FSYNC:
      disk->flushes++;
      return 0;
    case IORING_OP_FALLOCATE:
      memset(disk->bytes + it->offset, 0, it->address);
      return 0;
    default:
      return -EINVAL;
  }
}

void releaseHeld(unsigned at) {
  const Operation operation = held[at];
  memmove(held + at, held + at + 1, (--heldCount - at) * sizeof *held);
  complete(operation.userData, perform(&operation));
}

static void waitForKick(uint64_t userData) {
  kickRead = userData;
  if (!isKicked) return;
  isKicked = false;
  kick();
}

/** Only a read of the kick ever waits when its queue stops. */
static void cancel(uint64_t userData) {
  if (userData != kickRead) return;
  kickRead = NONE;
  complete(userData, -ECANCELED);
}

static void serveRequest(const Operation* it) {
  if (isHolding) held[heldCount++] = *it;
  else complete(it->userData, perform(it));
}

static void serve(const Operation* it) {
  if (it->opcode == OP_CHAIN) {
    // Its descriptor is the number of its queue.
    serveRequest(it);
  } else if (it->opcode == IORING_OP_ASYNC_CANCEL) {
    cancel(it->address);
  } else if (it->fd == KICK_FD) {
    waitForKick(it->userData);
  } else if (it->fd == CALL_FD) {
    calls++;
    complete(it->userData, 8);
  } else if (it->fd != CONTROL_FD) {
    // There are no commands from elsewhere: the read of the control descriptor waits for ever.
    serveRequest(it);
  }
}

static Operation takeSqe(void) {
  const uint32_t head = load32(SQ_HEAD);
  const uint32_t sqe = SQES + head % SQ_ENTRIES * SQE_SIZE;
  const Operation operation = {
      .opcode = linear[sqe + SQE_OPCODE],
      .fd = (int32_t)load32(sqe + SQE_FD),
      .offset = load64(sqe + SQE_OFF),
      .address = load64(sqe + SQE_ADDR),
      .length = load32(sqe + SQE_LEN),
      .flags = load32(sqe + SQE_OP_FLAGS),
      .userData = load64(sqe + SQE_USER_DATA),
  };
  store32(SQ_HEAD, head + 1);
  return operation;
}

uint32_t step(void) { return Z_coreZ_step(&core); }

void run(void) {
  for (;;) {
    const uint32_t outcome = step();
    if (outcome & STEP_WINDOW_MISS) die("guest memory that no window shows");
    if (outcome & STEP_BROKEN) die("the ring broke: fault %d", (int32_t)Z_coreZ_queueFault(&core, 0));
    for (uint32_t count = outcome & STEP_SUBMIT_MASK; count > 0; count--) {
      const Operation operation = takeSqe();
      serve(&operation);
    }
    if ((outcome & STEP_WAIT) && load32(CQ_HEAD) == load32(CQ_TAIL)) return;
  }
}
