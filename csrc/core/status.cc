// SPDX-License-Identifier: Apache-2.0
#include "core/status.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace pyneo {
namespace {

constexpr int kMessageBytes = 1024;
thread_local char g_message[kMessageBytes];

}  // namespace

Status fail(Status code, const char* format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(g_message, sizeof(g_message), format, args);
  va_end(args);
  return code;
}

Status fail_in(Status code, const char* format, ...) {
  char tail[kMessageBytes];
  memcpy(tail, g_message, sizeof(tail));
  va_list args;
  va_start(args, format);
  int used = vsnprintf(g_message, sizeof(g_message), format, args);
  va_end(args);
  if (used < 0) used = 0;
  if (used < kMessageBytes - 3) {
    snprintf(g_message + used, sizeof(g_message) - static_cast<size_t>(used), ": %s", tail);
  }
  return code;
}

const char* last_error() { return g_message; }
void clear_error() { g_message[0] = 0; }

}  // namespace pyneo
