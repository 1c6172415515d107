#include "guest.h"

#include <string.h>

/** A request has three descriptors: header, data, status. */
enum { CHAIN = 3 };

/** Guest memory, as offsets: the ring's three parts, then the slots. */
enum {
  DESC = 0,
  DRIVER = 0x1000,
  DEVICE = 0x2000,
  FIRST_SLOT = 0x10000,
  SLOT_STRIDE = 0x4000,
  SLOT_STATUS = 16,
  SLOT_DATA = 0x1000,
  SLOT_ROOM = 0x3000,
  /** The room's two buffers do not touch. */
  ROOM_STEP = 0x100,
};

enum { F_NEXT = 1, F_WRITE = 2, F_AVAIL = 0x80, F_USED = 0x8000 };
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4 };

/** struct virtq_desc and struct pvirtq_desc differ in their last two fields. */
typedef struct {
  uint64_t addr;
  uint32_t len;
  union {
    struct {
      uint16_t flags, next;
    } split;
    struct {
      uint16_t id, flags;
    } packed;
  };
} Desc;

typedef struct {
  uint16_t flags, idx, ring[RING_SIZE];
} Avail;

typedef struct {
  uint16_t flags, idx;
  struct {
    uint32_t id, len;
  } ring[RING_SIZE];
} UsedRing;

typedef struct {
  uint32_t type, reserved;
  uint64_t sector;
} Header;

typedef struct {
  uint32_t offset, byteLength;
  uint16_t flags;
} Buffer;

static GuestRam ram;
static uint8_t* bytes;
static bool isPacked, availWrap, usedWrap;
static uint16_t nextAvail, nextUsed;
/** Free slots, as a queue. */
static uint32_t freeSlots[SLOTS];
static unsigned firstFree, freeCount;

static uint32_t slotAt(uint32_t slot) { return FIRST_SLOT + slot * SLOT_STRIDE; }

static Desc* descs(void) { return (Desc*)(bytes + DESC); }

void openGuest(const GuestRam* theRam, bool packed) {
  ram = *theRam;
  bytes = linear + ram.ptr;
  memset(bytes, 0, RAM_SIZE);
  isPacked = packed;
  availWrap = usedWrap = true;
  nextAvail = nextUsed = 0;
  firstFree = 0;
  freeCount = SLOTS;
  for (uint32_t slot = 0; slot < SLOTS; slot++) freeSlots[slot] = slot;
}

Ring guestRing(void) {
  return (Ring){RING_SIZE,        isPacked ? QUEUE_F_PACKED : 0, ram.ptr + DESC, ram.ptr + DRIVER, ram.ptr + DEVICE,
                isPacked ? 0x80008000 : 0};
}

/** Each slot has its own three descriptors, so its head says which it is. */
static void addSplit(uint32_t slot, const Buffer* chain) {
  const uint16_t head = slot * CHAIN;
  for (int i = 0; i < CHAIN; i++) {
    Desc* desc = &descs()[head + i];
    desc->addr = ram.gpa + chain[i].offset;
    desc->len = chain[i].byteLength;
    desc->split.flags = chain[i].flags | (i + 1 < CHAIN ? F_NEXT : 0);
    desc->split.next = head + i + 1;
  }
  Avail* avail = (Avail*)(bytes + DRIVER);
  avail->ring[nextAvail % RING_SIZE] = head;
  avail->idx = ++nextAvail;
}

/** The slot is the buffer id. The first descriptor's flags, which the device goes by, are written last. */
static void addPacked(uint32_t slot, const Buffer* chain) {
  uint16_t at[CHAIN], flags[CHAIN];
  for (int i = 0; i < CHAIN; i++) {
    Desc* desc = &descs()[nextAvail];
    desc->addr = ram.gpa + chain[i].offset;
    desc->len = chain[i].byteLength;
    desc->packed.id = slot;
    at[i] = nextAvail;
    flags[i] = chain[i].flags | (i + 1 < CHAIN ? F_NEXT : 0) | (availWrap ? F_AVAIL : F_USED);
    if (++nextAvail < RING_SIZE) continue;
    nextAvail = 0;
    availWrap = !availWrap;
  }
  for (int i = CHAIN; i-- > 0;) descs()[at[i]].packed.flags = flags[i];
}

static uint32_t takeSlot(void) {
  if (freeCount == 0) die("all slots are in use");
  const uint32_t slot = freeSlots[firstFree];
  firstFree = (firstFree + 1) % SLOTS;
  freeCount--;
  return slot;
}

static uint32_t add(uint32_t slot, const Buffer* chain) {
  if (isPacked) addPacked(slot, chain);
  else addSplit(slot, chain);
  return slot;
}

static uint32_t submit(uint32_t type, uint64_t sector, uint32_t byteLength) {
  const uint32_t slot = takeSlot();
  const uint32_t at = slotAt(slot);
  *(Header*)(bytes + at) = (Header){type, 0, sector};
  bytes[at + SLOT_STATUS] = 0xff;
  const Buffer chain[CHAIN] = {
      {at, sizeof(Header), 0},
      {at + SLOT_DATA, byteLength, type == T_OUT ? 0 : F_WRITE},
      {at + SLOT_STATUS, 1, F_WRITE},
  };
  return add(slot, chain);
}

uint32_t submitWrite(uint64_t sector, const uint8_t* data, uint32_t byteLength) {
  memcpy(bytes + slotAt(freeSlots[firstFree]) + SLOT_DATA, data, byteLength);
  return submit(T_OUT, sector, byteLength);
}

uint32_t submitRead(uint64_t sector, uint32_t byteLength) { return submit(T_IN, sector, byteLength); }

uint32_t submitFlush(void) { return submit(T_FLUSH, 0, 0); }

uint32_t submitChain(const void* data, uint32_t byteLength) {
  const uint32_t slot = takeSlot();
  const uint32_t at = slotAt(slot);
  memcpy(bytes + at + SLOT_DATA, data, byteLength);
  const Buffer chain[CHAIN] = {
      {at + SLOT_DATA, byteLength, 0},
      {at + SLOT_ROOM, ROOM_PART, F_WRITE},
      {at + SLOT_ROOM + ROOM_STEP, ROOM_PART, F_WRITE},
  };
  return add(slot, chain);
}

void copyAnswer(uint32_t slot, void* to, uint32_t byteLength) {
  const uint8_t* room = bytes + slotAt(slot) + SLOT_ROOM;
  for (uint32_t i = 0; i < byteLength; i++) ((uint8_t*)to)[i] = room[i / ROOM_PART * ROOM_STEP + i % ROOM_PART];
}

static bool nextSplit(uint32_t* slot, uint32_t* writtenBytes) {
  const UsedRing* used = (const UsedRing*)(bytes + DEVICE);
  if (used->idx == nextUsed) return false;
  *slot = used->ring[nextUsed % RING_SIZE].id / CHAIN;
  *writtenBytes = used->ring[nextUsed % RING_SIZE].len;
  nextUsed++;
  return true;
}

static bool nextPacked(uint32_t* slot, uint32_t* writtenBytes) {
  const Desc* desc = &descs()[nextUsed];
  const bool isAvail = desc->packed.flags & F_AVAIL;
  const bool isUsed = desc->packed.flags & F_USED;
  if (isAvail != usedWrap || isUsed != usedWrap) return false;
  *slot = desc->packed.id;
  *writtenBytes = desc->len;
  nextUsed += CHAIN;
  if (nextUsed >= RING_SIZE) {
    nextUsed -= RING_SIZE;
    usedWrap = !usedWrap;
  }
  return true;
}

Used takeUsed(void) {
  Used used = {0};
  while (used.count < SLOTS) {
    uint32_t* slot = &used.slots[used.count];
    uint32_t* writtenBytes = &used.writtenBytes[used.count];
    if (!(isPacked ? nextPacked(slot, writtenBytes) : nextSplit(slot, writtenBytes))) break;
    freeSlots[(firstFree + freeCount++) % SLOTS] = *slot;
    used.count++;
  }
  return used;
}

uint8_t statusOf(uint32_t slot) { return bytes[slotAt(slot) + SLOT_STATUS]; }

const uint8_t* dataOf(uint32_t slot) { return bytes + slotAt(slot) + SLOT_DATA; }
