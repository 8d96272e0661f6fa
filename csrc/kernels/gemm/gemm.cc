// SPDX-License-Identifier: Apache-2.0
//
// Matrix product with a constant right operand, float32: MatMul and Gemm on packed panels of B.
//
// A panel of B is the outer loop and tiles of rows of A the inner one, in blocks of rows that stay in
// L2, so that B passes once for every block and, where A fits, once altogether.
#include "kernels/gemm/constant.h"
#include "kernels/gemm/partition.h"
#include "kernels/gemm/rows.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int64_t kTasksPerThread = 8;  // so that threads of unequal speed end together
constexpr int64_t kTaskTiles = 4;       // least tiles of rows of a task
// One thread does less than this sooner than two. The unit is a multiply or add; a number of B
// from memory takes as long as 24 of them.
constexpr double kAloneWork = 1e6;

struct State {
  Product p;
  int64_t block_rows;    // rows of A that are used together
};

int64_t panels(const Product& s) { return ceil_div(s.n, kRowPanel); }
// Columns of B as stored: the last panel is as narrow as its vectors allow.
int64_t stored_columns(const Product& s) {
  const int64_t last = s.n - (panels(s) - 1) * kRowPanel;
  return (panels(s) - 1) * kRowPanel + panel_vecs(last) * kVec;
}

template <bool kGemm>
PN_COLD bool accepts(const KernelQuery& q) { return accepts_product(q, kGemm); }

template <bool kGemm>
PN_COLD Status prepare(const KernelQuery& q, void* state) {
  State* s = static_cast<State*>(state);
  read_product(q, kGemm, &s->p);
  const int64_t rows = q.target->l2_bytes / 4 * 3 / (s->p.k * 4), least = 16 * kRowTile;
  s->block_rows = rows < least ? least : rows;
  return Status::kOk;
}

template <bool kGemm>
PN_COLD int64_t packed_bytes(const KernelQuery& q) {
  Product s;
  read_product_shape(q, kGemm, &s);
  return s.k * stored_columns(s) * 4;
}

// [panel][k][column]; the last panel is one or two vectors wide if that does.
template <bool kGemm>
PN_COLD void pack(const KernelQuery& q, const void* plain, void* packed) {
  Product s;
  read_product_shape(q, kGemm, &s);
  const ConstantB b = constant_b(q, kGemm, s, plain);
  float* to = static_cast<float*>(packed);
  for (int64_t n0 = 0; n0 < s.n; n0 += kRowPanel) {
    const int64_t live = s.n - n0 < kRowPanel ? s.n - n0 : kRowPanel, width = panel_vecs(live) * kVec;
    for (int64_t k = 0; k < s.k; ++k, to += width) {
      for (int64_t j = 0; j < live; ++j) to[j] = b.at(k, n0 + j);
    }
  }
}

struct Operands {
  const float *a, *b, *bias, *z;
  float* y;
};

// Rows [m0, m1) by panels [p0, p1).
void run_part(const State& state, const Operands& o, int64_t m0, int64_t m1, int64_t p0, int64_t p1) {
  const Product& s = state.p;
  const int64_t blocks = ceil_div(m1 - m0, state.block_rows), parts = ceil_div(s.k, kRowDepth);
  const auto depth_begin = [&](int64_t i) { return i < parts ? tile_begin(s.k / 4, parts, i) * 4 : s.k; };
  alignas(64) float bias[kRowTile * kRowPanel];
  PanelRun run;
  run.bias = bias;
  run.epilogue = &s.epilogue;
  run.a_step = s.k;
  run.y_step = s.n;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t row = m0 + tile_begin(m1 - m0, blocks, block);
    run.rows = m0 + tile_begin(m1 - m0, blocks, block + 1) - row;
    for (int64_t p = p0, at_once = 1; p < p1; p += at_once) {
      const int64_t n0 = p * kRowPanel, at = row * s.n + n0;
      at_once = run.rows == 1 && p + kRowTile <= p1 && n0 + kRowTile * kRowPanel <= s.n ? kRowTile : 1;
      run.live = s.n - n0 < kRowPanel ? s.n - n0 : kRowPanel;
      const int64_t width = panel_vecs(run.live) * kVec;
      for (int64_t j = 0; j < at_once * kRowPanel; ++j) {
        bias[j] = o.bias != nullptr && n0 + j < s.n ? s.bias_scale * o.bias[s.one_bias ? 0 : n0 + j] : 0;
      }
      run.y = o.y + at;
      run.z = o.z != nullptr ? o.z + at : nullptr;
      if (at_once > 1) {
        run.a = o.a + row * s.k;
        run.w = o.b + n0 * s.k;
        run.k = s.k;
        run_panels_of_row(run);
        continue;
      }
      for (int64_t i = 0; i < parts; ++i) {
        const int64_t k0 = depth_begin(i), k1 = depth_begin(i + 1);
        run.first = i == 0;
        run.last = i + 1 == parts;
        run.k = k1 - k0;
        run.a = o.a + row * s.k + k0;
        run.w = o.b + n0 * s.k + k0 * width;
        // Blocks of B lie in the order of their use.
        run.ahead = run.w + run.k * width;
        run.ahead_bytes = run.last && p + 1 == panels(s) ? 0 : run.k * width * 4;
        run_panel(run);
      }
    }
  }
}

Status run(const void* state, RunContext& c) {
  const State& all = *static_cast<const State*>(state);
  const Product& s = all.p;
  const auto in = [&](int i) { return c.has(i) ? c.in[i]->as<const float>() : nullptr; };
  const Operands o{in(0), in(1), in(2), in(3), c.out[0]->as<float>()};
  const int64_t across = panels(s), tiles = ceil_div(s.m, int64_t{kRowTile}), threads = c.pool->size();
  const double work = s.flops(), stream = 24.0 * static_cast<double>(s.n * s.k);
  if (threads == 1 || (work > stream ? work : stream) < kAloneWork) {
    run_part(all, o, 0, s.m, 0, across);
    return Status::kOk;
  }
  // Panels are the tasks, with their rows divided where panels are few; so each part of B has one reader
  // or neighbours in time. Many rows: blocks of them come first, lest A pass for every panel.
  const int64_t blocks = ceil_div(s.m, all.block_rows);
  int64_t down = blocks > 1 ? blocks : ceil_div(threads * kTasksPerThread, across);
  if (down > ceil_div(tiles, kTaskTiles)) down = ceil_div(tiles, kTaskTiles);
  // One row takes several panels at once, where there are enough for all threads.
  const int64_t group = s.m == 1 && across >= 2 * kRowTile * threads ? kRowTile : 1, groups = ceil_div(across, group);
  c.pool->run(groups * down, [&](int64_t task, int) {
    const int64_t p = (blocks > 1 ? task % groups : task / down) * group, part = blocks > 1 ? task / groups : task % down;
    const int64_t end = p + group < across ? p + group : across;
    const auto row = [&](int64_t i) { return tile_begin(s.m, tiles, tile_begin(tiles, down, i)); };
    run_part(all, o, row(part), row(part + 1), p, end);
  });
  return Status::kOk;
}

// Microseconds: the larger of multiply-adds at the rate of the tiles, and B from memory.
template <bool kGemm>
PN_COLD float cost(const KernelQuery& q) {
  Product s;
  read_product_shape(q, kGemm, &s);
  const double compute = s.flops() / (kPeakFlops * row_rate(s.m));
  const double b_bytes = static_cast<double>(s.k * stored_columns(s) * 4);
  // One row of a wide panel has chains enough to hide their latency, one of a narrow panel has not.
  const double stream = b_bytes / (b_bytes < static_cast<double>(q.target->l2_bytes) ? 20e3 : 5e3) / kRowVecs;
  return static_cast<float>((compute > stream ? compute : stream) + static_cast<double>(q.out[0]->bytes()) * 1e-5);
}

}  // namespace
}  // namespace PN_TIER

#if PN_VEC == 16
#define PN_WIDTH "n64"
#elif defined(__AVX2__)
#define PN_WIDTH "n24"
#else
#define PN_WIDTH "n16"
#endif
#define PN_ROW(name, op, gemm)                                                                        \
  {                                                                                                   \
    name, op, Layout::kPlain, Layout::kPlain, 1, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts<gemm>,       \
        PN_TIER::cost<gemm>, PN_TIER::packed_bytes<gemm>, PN_TIER::pack<gemm>, nullptr, nullptr,                                   \
        PN_TIER::prepare<gemm>, PN_TIER::run)                                                                  \
  }

PN_KERNEL_TABLE(gemm)
PN_KERNEL_ROWS(gemm) = {
    PN_ROW("f32_matmul_packed_" PN_WIDTH, "MatMul", false),
    PN_ROW("f32_gemm_packed_" PN_WIDTH, "Gemm", true),
};
PN_KERNEL_COUNT(gemm);
#undef PN_ROW

}  // namespace pyneo
