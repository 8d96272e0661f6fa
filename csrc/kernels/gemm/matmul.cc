// SPDX-License-Identifier: Apache-2.0
//
// Matrix product of two operands that are both known only at run time, float32, with numpy's batch
// rules: attention scores and their like.
//
// A panel of B is copied into the thread's scratch, in blocks of k, and used by all rows from there.
#include "kernels/gemm/partition.h"
#include "kernels/gemm/rows.h"
#include "kernels/kernel.h"
#include "ops/matmul.h"

namespace pyneo {
namespace PN_TIER {
namespace {

struct State {
  MatMulGeometry g;
  Epilogue epilogue;
};

double flops(const MatMulGeometry& g) {
  return 2.0 * static_cast<double>(g.batches * g.m) * static_cast<double>(g.n * g.k);
}

PN_COLD bool accepts(const KernelQuery& q) {
  for (int i = 0; i < q.n_in; ++i) {
    if (q.has(i) && (q.in[i]->dtype != DType::kF32 || q.in[i]->layout != Layout::kPlain)) return false;
  }
  MatMulGeometry g;
  if (read_matmul("MatMul", q.in[0]->shape, q.in[1]->shape, &g) != Status::kOk) {
    clear_error();
    return false;
  }
  return q.out[0]->dtype == DType::kF32 && q.out[0]->layout == Layout::kPlain && g.batches > 0 && g.m > 0 && g.n > 0 &&
         g.k > 0;
}

PN_COLD Status prepare(const KernelQuery& q, void* state) {
  State* s = static_cast<State*>(state);
  PN_TRY(read_matmul("MatMul", q.in[0]->shape, q.in[1]->shape, &s->g));
  s->epilogue.read(q.attrs, "MatMul");
  return Status::kOk;
}

PN_COLD int64_t thread_scratch_bytes(const KernelQuery& q) {
  MatMulGeometry g;
  if (read_matmul("MatMul", q.in[0]->shape, q.in[1]->shape, &g) != Status::kOk) clear_error();
  return (g.k < kRowDepth ? g.k : kRowDepth) * kRowPanel * 4;
}

struct Operands {
  const float *a, *b, *bias, *z;
  float* y;
};

// Rows [m0, m1) by panels [p0, p1) of one product.
void run_part(const State& s, const Operands& o, int64_t m0, int64_t m1, int64_t p0, int64_t p1, float* scratch) {
  const MatMulGeometry& g = s.g;
  alignas(64) float bias[kRowPanel];
  PanelRun run;
  run.bias = bias;
  run.epilogue = &s.epilogue;
  run.a_step = g.k;
  run.rows = m1 - m0;
  run.y_step = g.n;
  run.w = scratch;
  run.ahead = nullptr;
  run.ahead_bytes = 0;
  for (int64_t p = p0; p < p1; ++p) {
    const int64_t n0 = p * kRowPanel, at = m0 * g.n + n0;
    run.live = g.n - n0 < kRowPanel ? g.n - n0 : kRowPanel;
    const int64_t width = panel_vecs(run.live) * kVec;
    for (int64_t j = 0; j < kRowPanel; ++j) bias[j] = o.bias != nullptr && j < run.live ? o.bias[n0 + j] : 0;
    run.y = o.y + at;
    run.z = o.z != nullptr ? o.z + at : nullptr;
    for (int64_t k0 = 0; k0 < g.k; k0 += kRowDepth) {
      run.first = k0 == 0;
      run.last = k0 + kRowDepth >= g.k;
      run.k = run.last ? g.k - k0 : kRowDepth;
      run.a = o.a + m0 * g.k + k0;
      const float* from = o.b + k0 * g.n + n0;
      for (int64_t k = 0; k < run.k; ++k, from += g.n) {
        for (int64_t j = 0; j < width; j += kVec) {
          const int64_t left = run.live - j;
          store(scratch + k * width + j, left >= kVec ? load(from + j) : left > 0 ? load_n(from + j, static_cast<int>(left)) : VF{});
        }
      }
      run_panel(run);
    }
  }
}

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const MatMulGeometry& g = s.g;
  const auto in = [&](int i) { return c.has(i) ? c.in[i]->as<const float>() : nullptr; };
  const Operands all{in(0), in(1), in(2), in(3), c.out[0]->as<float>()};
  const int64_t tiles = ceil_div(g.m, int64_t{kRowTile}), panels = ceil_div(g.n, kRowPanel);
  const Pool serial = Pool::serial();
  const Pool& pool = flops(g) < kAloneFlops ? serial : *c.pool;
  const int64_t tasks = 4 * pool.size();
  Split split{1, 1};
  if (pool.size() > 1 && g.batches < tasks) split = split_grid(tiles, panels, ceil_div(tasks, g.batches));
  pool.run(g.batches * split.rows * split.cols, [&](int64_t task, int thread) {
    const int64_t across = task % split.cols, down = task / split.cols % split.rows;
    const int64_t batch = task / (split.cols * split.rows);
    int64_t left, right;
    g.matrices(batch, &left, &right);
    const int64_t at = batch * g.m * g.n;
    const Operands o{all.a + left * g.m * g.k, all.b + right * g.k * g.n, all.bias,
                     all.z != nullptr ? all.z + at : nullptr, all.y + at};
    const auto row = [&](int64_t part) { return tile_begin(g.m, tiles, tile_begin(tiles, split.rows, part)); };
    run_part(s, o, row(down), row(down + 1),
             tile_begin(panels, split.cols, across), tile_begin(panels, split.cols, across + 1),
             reinterpret_cast<float*>(c.thread_scratch + thread * c.thread_stride));
  });
  return Status::kOk;
}

// Microseconds: multiply-adds at the rate of the tiles, and B read from memory and copied.
PN_COLD float cost(const KernelQuery& q) {
  State s;
  if (prepare(q, &s) != Status::kOk) return 1e30f;
  const MatMulGeometry& g = s.g;
  const double useful = static_cast<double>(g.n) / static_cast<double>(round_up(g.n, kVec));
  const double us = flops(g) / (kPeakFlops * useful * row_rate(g.m));
  return static_cast<float>(us + static_cast<double>(q.in[1]->bytes()) * 1e-4 + static_cast<double>(q.out[0]->bytes()) * 2e-5);
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(matmul)
PN_KERNEL_ROWS(matmul) = {
    {"f32_matmul", "MatMul", Layout::kPlain, Layout::kPlain, -1, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts,
     PN_TIER::cost, nullptr, nullptr, nullptr, PN_TIER::thread_scratch_bytes, PN_TIER::prepare, PN_TIER::run)},
};
PN_KERNEL_COUNT(matmul);
static_assert(sizeof(PN_TIER::State) <= kMaxKernelState, "matmul state");

}  // namespace pyneo
