// SPDX-License-Identifier: Apache-2.0
//
// A recurrent node as its attributes and shapes describe it, and the loop over its time steps.
#pragma once

#include <cfloat>

#include "ops/op.h"

namespace pyneo {

enum class Cell { kRnn = 1, kGru = 3, kLstm = 4 };  // the number is the number of gates

// Activation functions of the gates, with the names and defaults that ONNX gives them.
enum class Fn {
  kRelu,
  kTanh,
  kSigmoid,
  kAffine,
  kLeakyRelu,
  kThresholdedRelu,
  kScaledTanh,
  kHardSigmoid,
  kElu,
  kSoftsign,
  kSoftplus
};

struct Squash {
  Fn fn = Fn::kTanh;
  float alpha = 0, beta = 0;

  float operator()(float x) const;
};

struct Recurrent {
  Cell cell = Cell::kRnn;
  int64_t steps = 0, batch = 0, inputs = 0, hidden = 0, directions = 1;
  int64_t gates = 1;
  bool batch_first = false, reverse = false, coupled = false, linear_before_reset = false;
  float clip = FLT_MAX;
  Squash f[2][3];  // by direction: gates, cell or candidate, output

  // Offsets of a row of X, Y and of a state.
  int64_t x_at(int64_t t, int64_t b) const {
    return (batch_first ? b * steps + t : t * batch + b) * inputs;
  }
  int64_t y_at(int64_t t, int64_t d, int64_t b) const {
    return (batch_first ? (b * steps + t) * directions + d : (t * directions + d) * batch + b) *
           hidden;
  }
  int64_t state_at(int64_t d, int64_t b) const {
    return (batch_first ? b * directions + d : d * batch + b) * hidden;
  }
};

struct RecurrentOperands {
  const float *x, *w, *r, *bias, *h0, *c0, *peepholes;
  const int32_t* lengths;
  float *y, *y_h, *y_c;
};

// All [directions][batch][hidden] but gates: [directions][steps * batch][gates * hidden].
struct RecurrentState {
  float *gates, *h, *h_next, *cell, *update, *reset_h;
};

// Whether every length of a batch is from 0 to `steps`.
Status check_lengths(const char* op, const int32_t* lengths, int64_t batch, int64_t steps);

// Runs all steps: writes Y, Y_h and Y_c where they are wanted.
void run_cells(const Recurrent& n, const RecurrentOperands& operands, const RecurrentState& state,
               const Pool& pool);

}  // namespace pyneo
