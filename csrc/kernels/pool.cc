// SPDX-License-Identifier: Apache-2.0
#include "kernels/pool.h"

#include "ops/window.h"

namespace pyneo {

bool pool_accepts(const KernelQuery& q) {
  const TensorDesc& x = *q.in[0];
  return x.dtype == DType::kF32 && x.layout == q.blocked() && q.out[0]->layout == q.blocked() && q.n_out == 1 &&
         x.shape.rank >= 3 && x.shape.rank <= 5;
}

float pool_cost(const KernelQuery& q) {
  const double taps = static_cast<double>(q.attrs.ints("kernel_shape").size > 0 ? q.attrs.ints("kernel_shape")[0] : 3);
  return static_cast<float>(static_cast<double>(q.out[0]->bytes()) * (2e-5 + taps * taps * 1e-5) +
                            static_cast<double>(q.in[0]->bytes()) * 3e-5 + 0.2);
}

Status pool_prepare(const KernelQuery& q, void* state) {
  PoolPlan& s = *static_cast<PoolPlan*>(state);
  Window v;
  PN_TRY(read_window("Pool", q.attrs, q.in[0]->shape, nullptr, true, &v));
  auto axis = [&](int i) {
    return PoolAxis{v.in[i], v.out[i], v.kernel[i], v.stride[i], v.dilation[i], v.pad_begin[i], v.pad_end[i]};
  };
  const PoolAxis none{1, 1, 1, 1, 1, 0, 0};
  s.d = v.spatial == 3 ? axis(0) : none;
  s.h = v.spatial >= 2 ? axis(v.spatial - 2) : none;
  s.w = axis(v.spatial - 1);
  s.planes = q.in[0]->shape[0] * ceil_div(q.in[0]->shape[1], q.vec());
  s.include_pad = q.attrs.i64("count_include_pad", 0) != 0;
  return Status::kOk;
}

}  // namespace pyneo
