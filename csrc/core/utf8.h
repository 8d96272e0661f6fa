// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace pyneo {

// Bytes of the character at `s`, at most `limit - s`; 0 if it is not valid UTF-8 (RFC 3629), ends early or is a
// control character, which no name and no line of a log may hold.
inline int utf8_character(const uint8_t* s, const uint8_t* limit) {
  if (*s < 0x20 || *s == 0x7f) return 0;
  const int extra = *s < 0x80 ? 0 : (*s & 0xe0) == 0xc0 ? 1 : (*s & 0xf0) == 0xe0 ? 2 : (*s & 0xf8) == 0xf0 ? 3 : -1;
  if (extra < 0 || limit - s <= extra) return 0;
  uint32_t code = extra == 0 ? *s : *s & (0x3fu >> extra);
  for (int k = 1; k <= extra; ++k) {
    if ((s[k] & 0xc0) != 0x80) return 0;
    code = code << 6 | (s[k] & 0x3fu);
  }
  static const uint32_t kLowest[] = {0, 0x80, 0x800, 0x10000};
  if (code < kLowest[extra] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return 0;
  return extra + 1;
}

}  // namespace pyneo
