// SPDX-License-Identifier: Apache-2.0
//
// Every element-wise function on rows of floats: the switch outside, the loop inside.
#include "kernels/eltwise/rows.h"

namespace pyneo {
namespace PN_TIER {
namespace {

template <typename F>
PN_INLINE void loop1(RowOperand a, float* y, const float* end, F f) {
  for (; y < end; a.data += a.step, y += kVec) store(y, f(load(a.data)));
}
template <typename F>
PN_INLINE void loop2(RowOperand a, RowOperand b, float* y, const float* end, F f) {
  for (; y < end; a.data += a.step, b.data += b.step, y += kVec) store(y, f(load(a.data), load(b.data)));
}

// Whole vectors only: end - y is a multiple of kVec.
void map_vectors(Fn f, float alpha, float beta, RowOperand a, RowOperand b, float* y, const float* end) {
  switch (f) {
    case Fn::kAdd: return loop2(a, b, y, end, [](VF p, VF q) { return p + q; });
    case Fn::kSub: return loop2(a, b, y, end, [](VF p, VF q) { return p - q; });
    case Fn::kMul: return loop2(a, b, y, end, [](VF p, VF q) { return p * q; });
    case Fn::kDiv: return loop2(a, b, y, end, [](VF p, VF q) { return p / q; });
    // NaN of either side wins.
    case Fn::kMax: return loop2(a, b, y, end, [](VF p, VF q) { return select((p > q) | (p != p), p, q); });
    case Fn::kMin: return loop2(a, b, y, end, [](VF p, VF q) { return select((p < q) | (p != p), p, q); });
    case Fn::kPrelu: return loop2(a, b, y, end, [](VF p, VF q) { return select(p < 0.0f, p * q, p); });
    case Fn::kExp: return loop1(a, y, end, [](VF x) { return vexp(x); });
    case Fn::kLog: return loop1(a, y, end, [](VF x) { return vlog(x); });
    case Fn::kSqrt: return loop1(a, y, end, [](VF x) { return vsqrt(x); });
    case Fn::kAbs: return loop1(a, y, end, [](VF x) { return vabs(x); });
    case Fn::kNeg: return loop1(a, y, end, [](VF x) { return -x; });
    case Fn::kReciprocal: return loop1(a, y, end, [](VF x) { return 1.0f / x; });
    case Fn::kErf: return loop1(a, y, end, [](VF x) { return verf(x); });
    case Fn::kFloor: return loop1(a, y, end, [](VF x) { return vfloor(x); });
    case Fn::kCeil: return loop1(a, y, end, [](VF x) { return vceil(x); });
    case Fn::kRound: return loop1(a, y, end, [](VF x) { return vround(x); });
    case Fn::kSquare: return loop1(a, y, end, [](VF x) { return x * x; });
    case Fn::kSwish: return loop1(a, y, end, [=](VF x) { return x / vone_plus_exp_neg(x * alpha); });
    case Fn::kAffine: return loop1(a, y, end, [=](VF x) { return x * alpha + beta; });
    case Fn::kNone: return loop1(a, y, end, [](VF x) { return x; });
    case Fn::kRelu: return loop1(a, y, end, [](VF x) { return vmax(x, VF{}); });
    case Fn::kClip: return loop1(a, y, end, [=](VF x) { return vclamp(x, alpha, beta); });
    case Fn::kLeakyRelu: return loop1(a, y, end, [=](VF x) { return select(x < 0.0f, x * alpha, x); });
    case Fn::kSigmoid: return loop1(a, y, end, [](VF x) { return vsigmoid(x); });
    case Fn::kTanh: return loop1(a, y, end, [](VF x) { return vtanh(x); });
    case Fn::kSilu: return loop1(a, y, end, [](VF x) { return vsilu(x); });
    case Fn::kHardSigmoid:
      return loop1(a, y, end, [=](VF x) { return vclamp(x * alpha + beta, 0.0f, 1.0f); });
    case Fn::kHardSwish:
      return loop1(a, y, end, [](VF x) { return x * vclamp(x * (1.0f / 6) + 0.5f, 0.0f, 1.0f); });
    case Fn::kGelu: return loop1(a, y, end, [](VF x) { return x * 0.5f * (1.0f + verf(x * 0.70710678f)); });
    case Fn::kGeluTanh:
      return loop1(a, y, end, [](VF x) {
        return x * 0.5f * (1.0f + vtanh((x + x * x * x * 0.044715f) * 0.79788456f));
      });
    case Fn::kElu: return loop1(a, y, end, [=](VF x) { return select(x < 0.0f, vexpm1(x) * alpha, x); });
    case Fn::kSoftplus:
      return loop1(a, y, end, [](VF x) { return vmax(x, VF{}) + vlog1p01(vexp(-vabs(x))); });
    case Fn::kMish:
      // tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2), which is 1 from e^20 on.
      return loop1(a, y, end, [](VF x) {
        const VF e = vexp(vmin(x, splat(20.0f))), m = e * (e + 2.0f);
        return x * (m / (m + 2.0f));
      });
  }
}

}  // namespace

void map_row(Fn f, float alpha, float beta, RowOperand a, RowOperand b, float* y, int64_t n) {
  const int64_t whole = n & -kVec;
  if (whole > 0) map_vectors(f, alpha, beta, a, b, y, y + whole);
  const int left = static_cast<int>(n - whole);
  if (left == 0) return;
  VF p{}, q{}, r;
  p = a.step ? load_n(a.data + whole, left) : load(a.data);
  if (b.data) q = b.step ? load_n(b.data + whole, left) : load(b.data);
  float* to = reinterpret_cast<float*>(&r);
  map_vectors(f, alpha, beta, {reinterpret_cast<float*>(&p), 0}, {reinterpret_cast<float*>(&q), 0}, to, to + kVec);
  store_n(y + whole, r, left);
}

void act_map(const Activation& a, const float* x, float* y, int64_t n) {
  map_row(fn_of(a.kind), a.alpha, a.beta, {x, kVec}, {nullptr, 0}, y, n);
}

void act_rows(const Activation& a, float* x, int64_t n) {
  if (a.kind != Act::kNone) act_map(a, x, x, n);
}

void finish_rows(const Activation& act, const float* z, const Activation& post, float* y, int64_t n) {
  act_rows(act, y, n);
  for (int64_t i = 0; i < n && z != nullptr; i += kVec) store(y + i, load(y + i) + load(z + i));
  act_rows(post, y, n);
}

VF act_vector(const Activation& a, VF x) {
  act_rows(a, reinterpret_cast<float*>(&x), kVec);
  return x;
}

}  // namespace PN_TIER
}  // namespace pyneo
