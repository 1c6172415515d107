// The log of what is written to guest memory, as the front-end of a guest that is moved sees it: what must be in it, and when.
#pragma once
#include <vector>

#include "engine.h"

namespace dirtylog {

extern bool isOn;

/** Of a new guest: none. */
void setUp();
/** A new log, or none any more. */
void setOn(bool on);
/** The front-end takes all bits away, and then copies those pages. */
void take();
/** The same while the core is at work: before its so manieth load in the next step. */
void takeAfter(uint32_t loads);
/** The same once it has made so many updates of the log, before it does anything else. */
void takeAfterUpdate(uint32_t updates);
/** A new process: what was in the kernel's hands is over. */
void boot();

/** Whether the log is there, and holds these bytes. */
bool holds(const Span& access);
void beforeLoad();
void beforeStore(uint32_t ptr);

/** The core has written to guest memory: offsets into all of it. */
void wrote(uint32_t offset, uint32_t length);
/** The same of the host, for it, after a step: the next one logs that. */
void wroteForCore(uint32_t offset, uint32_t length);
/** A completion goes to the core: what was to be written is written. Also of those that are no request's. */
void completed(const Sqe& sqe, int32_t result);
void completedNothing();

/** `ringParts`: what the device may write of rings that are not stopped, as pointers. */
void beforeStep(const std::vector<Span>& ringParts);
void afterStep();

/** After a crash: whether the log can tell what was logged when, and whether it has this page, or what was read by this request. */
bool canTell();
bool hasPage(uint64_t gpa);
bool hasCompletions(uint32_t request);

}  // namespace dirtylog
