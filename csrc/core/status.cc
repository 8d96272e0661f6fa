// SPDX-License-Identifier: Apache-2.0
#include "core/status.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "core/utf8.h"

namespace pyneo {
namespace {

constexpr int kMessageBytes = 1024;
thread_local char g_message[kMessageBytes];

// A message quotes what a package holds (an attribute's text, a name cut short): it stays one line of UTF-8.
void clean() {
  uint8_t* s = reinterpret_cast<uint8_t*>(g_message);
  const uint8_t* limit = s + strlen(g_message);
  while (s < limit) {
    const int bytes = utf8_character(s, limit);
    if (bytes == 0) *s = '?';
    s += bytes == 0 ? 1 : bytes;
  }
}

}  // namespace

Status fail(Status code, const char* format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(g_message, sizeof(g_message), format, args);
  va_end(args);
  clean();
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
  const int room = kMessageBytes - used - 3;  // for ": " and the end
  if (room > 0) snprintf(g_message + used, static_cast<size_t>(room) + 3, ": %.*s", room, tail);
  clean();
  return code;
}

const char* last_error() { return g_message; }
void clear_error() { g_message[0] = 0; }

}  // namespace pyneo
