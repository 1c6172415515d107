// Holds what the core did in one step to what the chains it took allow.
#pragma once
#include <cstdint>
#include <vector>

#include "core.h"
#include "engine.h"
#include "model.h"

/** A chain that the core has taken and not given back. */
struct Taken {
  Chain chain;
  Expectation expectation;
  /** The request that serves it, once it has submitted something. */
  int slot = -1;
};

class Queue {
 public:
  uint32_t index = 0;
  Ring ring{};
  /** QUEUE_F_*, beside those of the ring: what its chains are, and what becomes of them. */
  uint32_t kindFlags = 0;
  bool isTracked = false;
  /** Chains that it may still take. */
  uint32_t credit = CREDIT_UNLIMITED;
  bool isStarted = false;
  bool isStopping = false;
  bool isBroken = false;
  bool isSuspended = false;
  /**
   * Whether the model can follow: it can't where the guest writes while the core reads, where what the core writes for
   * one chain changes another, and where a predecessor's requests come first.
   */
  bool isFollowed = false;
  std::vector<Taken> taken;

  void begin();
  /** Before a step: the chains that it may take. */
  void foresee();
  bool isOfChains() const { return (kindFlags & QUEUE_F_CHAINS) != 0; }
  void addCredit(uint32_t count) { credit = credit + count < count ? CREDIT_UNLIMITED : credit + count; }
  /** After it. */
  void checkTaken();
  /** Whether the core has gone on in the available part of the ring. */
  bool hasMoved() const;
  void checkUsed();
  void checkFault();
  void checkAllSubmitted() const;
  /** Nothing is left that the core could go on with. */
  void checkIdle(bool isThrottled) const;
  /** A limit refuses the next chain, as of now; and, at most as long ago as a hold lasts, has. */
  bool isRefused() const;
  bool isHeldBack() const;
  void noteRefusal();
  /** The last step found its next chain refused; the driver has left that as it was, and no limit refuses it any more. */
  bool isDue() const;
  /** The wait that was asked for is no longer than that. */
  void checkWait(uint32_t throttleUs) const;
  /** Before a step: whether the driver can see ends that the core has not told. */
  void lookForUsed();
  /** What the driver can see as used, after a crash: all that was written for it has been logged. */
  void checkUsedLogged();
  /** The next chain has more data than one operation takes. */
  bool waitsLong() const;
  /** The chain that this request serves. */
  Taken* served(uint32_t slot);
  /** A chain taken in this step that asks for just this SQE, and has none yet. */
  Taken* asking(const Sqe& sqe);

  /** What of the ring the device may write: pointers. */
  std::vector<Span> deviceParts() const;
  /** All of the ring. */
  std::vector<Span> parts() const;
  /** Whether a data store of this step may go to this range of guest addresses, for all that the model knows. */
  bool allows(const Span& store) const;

 private:
  /** What limits make of the next chain; not limited: there is none that a limit could refuse. */
  Charge nextCharge() const;

  std::vector<Chain> foreseen_;
  uint32_t base_ = 0;
  uint16_t usedSeen_ = 0;
  /** Before the step. */
  bool hadUsed_ = false;
  /** By the clock of limits: when one has last refused the next chain; 0: never. */
  uint64_t refusedAt_ = 0;
  /** The chain that the last step found refused, and since when it has been that; not limited: none. */
  Charge refused_;
  uint64_t refusedSince_ = 0;

  uint32_t positionsBetween(uint32_t from, uint32_t to) const;
  std::vector<uint16_t> usedUnseen() const;
  const Chain* find(uint16_t id) const;
  void foreseeSplit();
  void foreseePacked();
  bool readsStale() const;
  void take(size_t count);
  void spendCredit(size_t count);
  /** Whether two of the chains that were taken, and of these, have one id. */
  bool sharesIds(const std::vector<Chain>& others) const;
  void checkUsedSplit();
  void checkUsedPacked(uint32_t base);
  /** Returns how many descriptors of the ring the chain had. */
  uint32_t giveBack(uint16_t id, uint32_t length);
  std::vector<Taken>::iterator findOwed(uint16_t id, uint32_t length);
  void checkStatus(const Taken& one) const;
  void loseTrackIfOverwritten();
};

namespace oracle {
/** A queue is about to start. */
void beginQueue(const std::vector<Queue>& queues, Queue& queue);
void beforeStep(std::vector<Queue>& queues, bool isRaced);
void afterStep(std::vector<Queue>& queues, uint32_t outcome);
/** The step did not end. */
void afterCrash(std::vector<Queue>& queues);
/** The kernel's answer to a request's operation. */
void advance(std::vector<Queue>& queues, const Sqe& sqe, int32_t result);
}  // namespace oracle
