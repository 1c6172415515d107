#include "report.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace {

void say(const char* prefix, const char* format, va_list arguments) {
  fputs(prefix, stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
}

}  // namespace

void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say("oracle: ", format, arguments);
  va_end(arguments);
  abort();
}

void trace(const char* format, ...) {
  static const bool isOn = getenv("FUZZ_TRACE") != nullptr;
  if (!isOn) return;
  va_list arguments;
  va_start(arguments, format);
  say("", format, arguments);
  va_end(arguments);
}
