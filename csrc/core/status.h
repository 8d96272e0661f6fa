// SPDX-License-Identifier: Apache-2.0
//
// Status of a core call: a code, and a sentence kept per thread.
//
// The core uses neither exceptions nor allocation to report an error: `fail()` formats the sentence
// into a thread-local buffer and returns its code; the C ABI hands both out (`pn_last_error`).
#pragma once

#include <cstdint>

namespace pyneo {

enum class [[nodiscard]] Status : int32_t {
  kOk = 0,
  kInvalidPackage = 1,    // the bytes are not a well-formed package or plan
  kInvalidArgument = 2,   // a caller's argument or an input tensor is wrong
  kUnsupported = 3,       // operator, dtype, kernel or target this library does not have
  kOutOfMemory = 4,       // an allocation failed; nothing was changed
  kNeedsValue = 5,        // a shape depends on the value of an input that is not known yet
  kInvalidModel = 6,      // an operator's attributes, shapes or data values break its definition
  kIo = 7,                // a file could not be opened or read
  kUntrusted = 8,         // signature missing or refused by the verifier
  kInternal = 9,          // a bug in pyneo
  kInterrupted = 10,      // the caller's interrupt function ended the run
};

// Formats the message (printf style, truncated to 1023 bytes) and returns `code`.
__attribute__((format(printf, 2, 3))) Status fail(Status code, const char* format, ...);

// Puts "prefix: " in front of the current message (a node's name, say); returns `code`.
__attribute__((format(printf, 2, 3))) Status fail_in(Status code, const char* format, ...);

// The message of the last failed call on this thread; "" if none failed.
const char* last_error();
void clear_error();

#define PN_TRY(expr)                                    \
  do {                                                  \
    const ::pyneo::Status pn_status_ = (expr);          \
    if (pn_status_ != ::pyneo::Status::kOk) return pn_status_; \
  } while (0)

}  // namespace pyneo
