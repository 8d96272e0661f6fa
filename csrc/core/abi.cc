// SPDX-License-Identifier: Apache-2.0
#include "core/abi.h"

namespace pyneo {

Status to_desc(const pn_tensor& t, const char* what, TensorDesc* out) {
  TensorDesc d;
  d.dtype = static_cast<DType>(t.dtype);
  d.layout = static_cast<Layout>(t.layout);
  if (dtype_size(d.dtype) == 0) return fail(Status::kUnsupported, "%s: dtype number %u is not supported", what, t.dtype);
  if (d.layout != Layout::kPlain && d.layout != Layout::kC8 && d.layout != Layout::kC16 && d.layout != Layout::kPacked) {
    return fail(Status::kInvalidArgument, "%s: layout %u is unknown", what, t.layout);
  }
  if (t.rank > kMaxRank) return fail(Status::kUnsupported, "%s: rank %u, at most %d is supported", what, t.rank, kMaxRank);
  d.shape.rank = t.rank;
  for (int i = 0; i < t.rank; ++i) d.shape[i] = t.dims[i];
  int64_t n = 0;
  if (!checked_elements(d.shape, 64, &n)) {
    char text[160];
    return fail(Status::kInvalidArgument, "%s: shape %s is negative somewhere or too large", what,
                format_shape(d.shape, text, sizeof(text)));
  }
  *out = d;
  return Status::kOk;
}

void from_desc(const TensorDesc& d, pn_tensor* t) {
  t->dtype = static_cast<uint8_t>(d.dtype);
  t->layout = static_cast<uint8_t>(d.layout);
  t->rank = static_cast<uint8_t>(d.shape.rank);
  t->reserved = 0;
  for (int i = 0; i < kMaxRank; ++i) t->dims[i] = i < d.shape.rank ? d.shape[i] : 0;
}

}  // namespace pyneo

extern "C" const char* pn_last_error(void) { return pyneo::last_error(); }

extern "C" const char* pn_status_name(pn_status status) {
  switch (status) {
    case PN_OK: return "ok";
    case PN_INVALID_PACKAGE: return "invalid package";
    case PN_INVALID_ARGUMENT: return "invalid argument";
    case PN_UNSUPPORTED: return "unsupported";
    case PN_OUT_OF_MEMORY: return "out of memory";
    case PN_NEEDS_VALUE: return "needs a value";
    case PN_INVALID_MODEL: return "invalid model";
    case PN_IO: return "input/output";
    case PN_UNTRUSTED: return "untrusted";
    case PN_INTERNAL: return "internal";
    case PN_INTERRUPTED: return "interrupted";
  }
  return "unknown status";
}
