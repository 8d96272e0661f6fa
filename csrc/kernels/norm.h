// SPDX-License-Identifier: Apache-2.0
//
// What normalisations work out from shapes, compiled once for all tiers. kernels/norm/norm.cc runs it.
#pragma once

#include "kernels/kernel.h"

namespace pyneo {

// Where an operator over rows has its operands; -1: nowhere. As in ops/layer_norm.cc.
struct NormForm {
  const char* op;
  bool centred;
  float epsilon;
  int skip, extra, scale, bias, sum;
};

struct NormRows {
  int64_t rows, width;
  float epsilon;
  const NormForm* form;
};

enum class NormBy : uint8_t { kBatch, kInstance, kGroup };

struct NormPlanes {
  int64_t images, channels, plane, groups;
  float epsilon;
  NormBy by;
  bool blocked;
};

bool norm_rows_accepts(const KernelQuery& q);
Status norm_rows_prepare(const KernelQuery& q, void* state);
bool norm_planes_accepts(const KernelQuery& q);
int64_t norm_planes_scratch_bytes(const KernelQuery& q);
Status norm_planes_prepare(const KernelQuery& q, void* state);
float norm_cost(const KernelQuery& q);

}  // namespace pyneo
