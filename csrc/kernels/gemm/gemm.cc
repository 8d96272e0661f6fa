// SPDX-License-Identifier: Apache-2.0
//
// Matrix product with a constant right operand, float32: MatMul and Gemm on packed panels of B.
//
// A panel of B is the outer loop and tiles of rows of A the inner one, in blocks of rows that stay in
// L2, so that B passes once for every block and, where A fits, once altogether.
#include "kernels/gemm/partition.h"
#include "kernels/kernel.h"
#include "ops/matmul.h"

namespace pyneo {
namespace PN_TIER {
namespace {

struct State {
  int64_t m, n, k;
  int64_t block_tiles;   // tiles of rows of A that are used together
  bool copy_rows;        // A's row stride is a multiple of a page: a block is copied to another stride
  bool one_bias;         // the same bias for every column
  float bias_scale;
  Epilogue epilogue;
};

int64_t panels(const State& s) { return ceil_div(s.n, kPanel); }
int64_t copy_stride(const State& s) { return s.k + 16; }

// Shapes of an accepted query, without what is not packed.
bool read_shape(const KernelQuery& q, bool gemm, State* s) {
  const Shape &a = q.in[0]->shape, &b = q.in[1]->shape;
  const bool transposed = gemm && q.attrs.i64("transB", 0) != 0;
  if (b.rank != 2 || a.rank < 1) return false;
  s->k = b[transposed ? 1 : 0];
  s->n = b[transposed ? 0 : 1];
  s->m = a.product(0, a.rank - 1);
  return a[a.rank - 1] == s->k;
}

bool plain_f32(const TensorDesc* t) { return t->dtype == DType::kF32 && t->layout == Layout::kPlain; }

bool accepts_operands(const KernelQuery& q, bool gemm) {
  for (int i = 0; i < q.n_in; ++i) {
    if (q.has(i) && (i == 1 ? q.in[1]->dtype != DType::kF32 : !plain_f32(q.in[i]))) return false;
  }
  State s;
  return plain_f32(q.out[0]) && read_shape(q, gemm, &s) && s.m > 0 && s.n > 0 && s.k > 0;
}
bool accepts_matmul(const KernelQuery& q) { return accepts_operands(q, false); }
bool accepts_gemm(const KernelQuery& q) {
  if (!accepts_operands(q, true) || q.attrs.i64("transA", 0) != 0) return false;
  if (!q.has(2)) return true;
  const Shape& c = q.in[2]->shape;  // one row, or one number
  return c.rank < 2 || c[0] == 1;
}

void plan(const KernelQuery& q, bool gemm, State* s) {
  read_shape(q, gemm, s);
  s->epilogue.read(q.attrs, gemm ? "Gemm" : "MatMul");
  s->bias_scale = gemm ? q.attrs.f32("beta", 1) : 1;
  s->one_bias = q.has(2) && q.in[2]->shape.elements() == 1;
  // Rows a page apart share one set of L1, which holds fewer lines than a tile has rows.
  s->copy_rows = kTilePixels > 8 && s->m > 8 && s->k % 1024 == 0;
  const int64_t tiles = q.target->l2_bytes / 2 / (s->k * 4 * kTilePixels), all = ceil_div(s->m, kTilePixels);
  s->block_tiles = tiles < 2 ? 2 : tiles;
  if (s->block_tiles > all) s->block_tiles = all;
}

template <bool kGemm>
Status prepare(const KernelQuery& q, void* state) {
  plan(q, kGemm, static_cast<State*>(state));
  return Status::kOk;
}

template <bool kGemm>
int64_t packed_bytes(const KernelQuery& q) {
  State s;
  read_shape(q, kGemm, &s);
  return s.k * round_up(s.n, kVec) * 4;
}

template <bool kGemm>
int64_t thread_scratch_bytes(const KernelQuery& q) {
  State s;
  plan(q, kGemm, &s);
  return s.copy_rows ? s.block_tiles * kTilePixels * copy_stride(s) * 4 : 0;
}

// [panel][k][column]; the last panel is one vector wide if that does. Gemm's alpha goes into B.
template <bool kGemm>
void pack(const KernelQuery& q, const void* plain, void* packed) {
  State s;
  read_shape(q, kGemm, &s);
  const bool transposed = kGemm && q.attrs.i64("transB", 0) != 0;
  const float alpha = kGemm ? q.attrs.f32("alpha", 1) : 1;
  const int64_t row = transposed ? 1 : s.n, col = transposed ? s.k : 1;
  const float* b = static_cast<const float*>(plain);
  float* to = static_cast<float*>(packed);
  for (int64_t n0 = 0; n0 < s.n; n0 += kPanel) {
    const int64_t live = s.n - n0 < kPanel ? s.n - n0 : kPanel, width = live <= kVec ? kVec : kPanel;
    for (int64_t k = 0; k < s.k; ++k, to += width) {
      for (int64_t j = 0; j < live; ++j) to[j] = alpha * b[k * row + (n0 + j) * col];
    }
  }
}

struct Operands {
  const float *a, *b, *bias, *z;
  float* y;
};

// Rows [m0, m1) by panels [p0, p1).
void run_part(const State& s, const Operands& o, int64_t m0, int64_t m1, int64_t p0, int64_t p1, float* scratch) {
  const int64_t m = m1 - m0, tiles = ceil_div(m, kTilePixels), blocks = ceil_div(tiles, s.block_tiles);
  Finish f;
  s.epilogue.clamps(&f);
  alignas(64) float bias[kPanel];
  f.bias = bias;
  f.out_vec = kVec;
  f.out_pixel = s.n;
  f.out_row = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t t0 = tile_begin(tiles, blocks, block), t1 = tile_begin(tiles, blocks, block + 1);
    const int64_t r0 = tile_begin(m, tiles, t0), r1 = tile_begin(m, tiles, t1);
    Walk walk{1, 0, 1, 0, 1, 0, s.k, s.k, s.k, 0, kPanel};
    const float* a = o.a + (m0 + r0) * s.k;
    if (s.copy_rows) {
      walk.pixel = copy_stride(s);
      for (int64_t r = 0; r < r1 - r0; ++r) {
        __builtin_memcpy(scratch + r * walk.pixel, a + r * s.k, static_cast<size_t>(s.k) * sizeof(float));
      }
      a = scratch;
    }
    for (int64_t p = p0; p < p1; ++p) {
      const int64_t n0 = p * kPanel, live = s.n - n0 < kPanel ? s.n - n0 : kPanel;
      const int vecs = live <= kVec ? 1 : kTileVecs;
      walk.w_step = vecs * kVec;
      const float* w = o.b + n0 * s.k;
      for (int64_t j = 0; j < kPanel; ++j) {
        bias[j] = o.bias != nullptr && j < live ? s.bias_scale * o.bias[s.one_bias ? 0 : n0 + j] : 0;
      }
      // The next panel arrives in L2 while this one is used, from the first tiles on.
      const float* next = w + kPanel * s.k;
      const float* const end = p + 1 < p1 ? next + kPanel * s.k : next;
      for (int64_t t = t0; t < t1; ++t) {
        const int64_t row = tile_begin(m, tiles, t), r = row - r0;
        const int rows = static_cast<int>(tile_begin(m, tiles, t + 1) - row);
        const int64_t at = (m0 + row) * s.n + n0;
        const float* z = o.z != nullptr ? o.z + at : nullptr;
        const TileFn fn = tile_fn(1, rows, vecs);
        f.ahead = next < end ? next : w;
        next += s.k * 8;
        if (s.epilogue.direct && live == vecs * kVec) {
          fn(walk, a + r * walk.pixel, w, f, o.y + at, z);
        } else {
          const Scatter scatter{1, kVec, s.n, 0, static_cast<int>(live)};
          run_buffered(fn, 1, rows, vecs, walk, a + r * walk.pixel, w, bias, f.ahead, s.epilogue, scatter,
                       o.y + at, z);
        }
      }
    }
  }
}

double flops(const State& s) { return 2.0 * static_cast<double>(s.m) * static_cast<double>(s.n * s.k); }

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const auto in = [&](int i) { return c.has(i) ? c.in[i]->as<const float>() : nullptr; };
  const Operands o{in(0), in(1), in(2), in(3), c.out[0]->as<float>()};
  const int64_t row_tiles = ceil_div(s.m, kTilePixels);
  Split split{1, 1};
  if (flops(s) >= kAloneFlops) split = split_grid(row_tiles, panels(s), c.pool->size());
  c.pool->run(split.rows * split.cols, [&](int64_t task, int thread) {
    const int64_t down = task / split.cols, across = task % split.cols;
    run_part(s, o, tile_begin(s.m, row_tiles, tile_begin(row_tiles, split.rows, down)),
             tile_begin(s.m, row_tiles, tile_begin(row_tiles, split.rows, down + 1)),
             tile_begin(panels(s), split.cols, across), tile_begin(panels(s), split.cols, across + 1),
             reinterpret_cast<float*>(c.thread_scratch + thread * c.thread_stride));
  });
  return Status::kOk;
}

// Microseconds: the larger of multiply-adds at the rate of the tiles, and B from memory.
template <bool kGemm>
float cost(const KernelQuery& q) {
  State s;
  plan(q, kGemm, &s);
  const double compute = flops(s) / (kPeakFlops * tile_rate(s.m));
  const double b_bytes = static_cast<double>(s.k * round_up(s.n, kVec) * 4);
  const double stream = b_bytes / (b_bytes < static_cast<double>(q.target->l2_bytes) ? 80e3 : 20e3);
  return static_cast<float>((compute > stream ? compute : stream) + static_cast<double>(q.out[0]->bytes()) * 1e-5);
}

}  // namespace
}  // namespace PN_TIER

#if PN_VEC == 16
#define PN_WIDTH "n32"
#else
#define PN_WIDTH "n16"
#endif
#define PN_ROW(name, op, accept, gemm)                                                                        \
  {                                                                                                           \
    name, op, Layout::kPlain, Layout::kPlain, 1, sizeof(PN_TIER::State), PN_TIER::accept, PN_TIER::cost<gemm>, \
        PN_TIER::packed_bytes<gemm>, PN_TIER::pack<gemm>, nullptr, PN_TIER::thread_scratch_bytes<gemm>,       \
        PN_TIER::prepare<gemm>, PN_TIER::run                                                                  \
  }

PN_KERNEL_TABLE(gemm)
PN_KERNEL_ROWS(gemm) = {
    PN_ROW("f32_matmul_packed_" PN_WIDTH, "MatMul", accepts_matmul, false),
    PN_ROW("f32_gemm_packed_" PN_WIDTH, "Gemm", accepts_gemm, true),
};
PN_KERNEL_COUNT(gemm);
#undef PN_ROW

}  // namespace pyneo
