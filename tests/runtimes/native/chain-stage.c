#include "chain-stage.h"

#include <stdio.h>
#include <string.h>

enum { NOT_DONE = 5, TEXT_MAX = 256, FLAGS = QUEUE_F_CHAINS | QUEUE_F_CREDIT | QUEUE_F_RECOVER_FAIL };

static const GuestRam* ram;
static uint32_t inflight;
static const char* format;
/** What came to the device since this was last asked. */
static char arrived[TEXT_MAX];

static void list(char* text, const char* what) {
  const size_t length = strlen(text);
  snprintf(text + length, TEXT_MAX - length, "%s%s", length == 0 ? "" : ", ", what);
}

static void gather(const Chain* chain, uint8_t* bytes, uint32_t* length) {
  *length = 0;
  for (uint32_t i = 0; i < chain->readableCount; i++) {
    memcpy(bytes + *length, chain->buffers[i].iov_base, chain->buffers[i].iov_len);
    *length += chain->buffers[i].iov_len;
  }
}

/** Gives back what it gets, from its end. */
static int32_t serveChain(const Chain* chain) {
  uint8_t bytes[TEXT_MAX];
  uint32_t length;
  gather(chain, bytes, &length);
  char name[TEXT_MAX];
  snprintf(name, sizeof name, "%.*s (flags %u)", (int)length, (const char*)bytes, chain->flags);
  list(arrived, name);
  if (chain->flags != 0) return -NOT_DONE;
  uint32_t left = length;
  for (uint32_t i = chain->readableCount; i < chain->count; i++) {
    uint8_t* part = chain->buffers[i].iov_base;
    for (size_t at = 0; at < chain->buffers[i].iov_len && left > 0; at++) part[at] = bytes[--left];
  }
  return (int32_t)length;
}

static int32_t parkChain(const Chain* chain) {
  (void)chain;
  return CHAIN_PARKED;
}

static void bootDevice(void) {
  static uint8_t sector[512];
  static Disk disk = {sector, sizeof sector, 0};
  boot(ram, &disk);
  onChain = serveChain;
}

static void startChains(uint32_t base) {
  Ring ring = guestRing();
  ring.flags |= FLAGS;
  ring.base = base;
  startRing(&ring, inflight);
}

static void sendWord(const char* word) { submitChain(word, strlen(word)); }

static void tellCame(const char* when) {
  printf("%s: %s: %s", format, when, arrived[0] == 0 ? "none" : arrived);
  arrived[0] = 0;
}

static void tellUsed(const char* between) {
  const Used used = takeUsed();
  char text[TEXT_MAX] = "";
  for (unsigned i = 0; i < used.count; i++) {
    char answer[TEXT_MAX] = "nothing";
    const uint32_t length = used.writtenBytes[i];
    if (length > 0) {
      copyAnswer(used.slots[i], answer, length);
      answer[length] = 0;
    }
    list(text, answer);
  }
  printf("%s%s\n", between, text[0] == 0 ? "none" : text);
}

static void answerOne(void) {
  giveCredit(1);
  sendWord("chains");
  kick();
  run();
  tellCame("a chain");
  tellUsed(", used: ");
}

static void giveSome(void) {
  sendWord("first");
  sendWord("second");
  sendWord("third");
  kick();
  run();
  tellCame("without credit");
  printf("\n");
  for (int i = 0; i < 2; i++) {
    giveCredit(1);
    run();
    tellCame("credit for one");
    printf("\n");
  }
  printf("%s: ", format);
  tellUsed("used: ");
}

static void park(void) {
  isHolding = true;
  giveCredit(1);
  run();
  onChain = parkChain;
  releaseHeld(0);
  const uint32_t base = stopRing();
  printf("%s: parked: base 0x%x", format, base);
  tellUsed(", used: ");
  onChain = serveChain;
  startChains(base);
  giveCredit(1);
  run();
  releaseHeld(0);
  run();
  tellCame("started again");
  tellUsed(", used: ");
}

static void crash(void) {
  sendWord("begun");
  sendWord("new");
  giveCredit(1);
  kick();
  run();
  isHolding = false;
  bootDevice();
  startChains(guestRing().base);
  giveCredit(2);
  run();
  tellCame("the successor");
  tellUsed(", used: ");
  printf("%s: chains stopped, base 0x%x\n", format, stopRing());
}

void playChains(const GuestRam* theRam, uint32_t inflightPtr, bool isPacked, const char* theFormat) {
  ram = theRam;
  inflight = inflightPtr;
  format = theFormat;
  openGuest(ram, isPacked);
  bootDevice();
  startChains(guestRing().base);
  answerOne();
  giveSome();
  park();
  crash();
}
