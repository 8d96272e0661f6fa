// SPDX-License-Identifier: Apache-2.0
//
// 3x3 convolution of stride 1 by Winograd's F(4x4, 3x3), its products on AMX (slices.h says how).
//
// The input of a block of tiles is transformed, [16 tiles][channel block][36 positions][tile]. Then, position by position,
// the input is cut into slices, a tile's channels with a scale of their own, and its products go where the input was. At the end
// they are transformed into the output. So all that lies in L2 is written there once, and weights pass once for each block.
#include "kernels/amx/slices.h"
#include "kernels/winograd/transforms.h"

namespace pyneo {
namespace PN_TIER {
namespace {

using namespace winograd;  // NOLINT: this file is about nothing else

constexpr int kOut = 4, kPositions = (kOut + 2) * (kOut + 2);
constexpr int64_t kBox = kPositions * kStep;

int64_t steps(const Geometry& g) { return ceil_div(g.channels, kSliceDepth); }
int64_t position_bytes(const Geometry& g) { return sliced_bytes(steps(g), g.filters); }
// Boxes of a group of tiles: of its input, then of its products.
int64_t boxes(const Geometry& g) { return max64(g.blocks(), ceil_div(g.filters, kVec)); }
// Slices of one position of so many groups.
int64_t slice_bytes(int64_t groups) { return groups * kSliceBytes; }

PN_COLD bool accepts_planes(const KernelQuery& q) {
  return q.in[0]->shape.rank < 5 && accepts(q) && q.in[1]->shape.product(2, 4) == kTaps && q.in[0]->shape[1] <= kMostDepth;
}

int64_t packed_bytes(const KernelQuery& q) {
  Geometry g;
  read_geometry(q, &g);
  return g.groups * kPositions * position_bytes(g);
}

// One position of a group's transformed weights.
struct Filters {
  const Geometry& g;
  const float* w;
  double rows[kOut + 2][3];  // of G
  int position;

  explicit Filters(const Geometry& geometry, const float* plain) : g(geometry), w(plain), position(0) {
    for (int k = 0; k < 3; ++k) {
      const double unit[3] = {k == 0 ? 1.0 : 0.0, k == 1 ? 1.0 : 0.0, k == 2 ? 1.0 : 0.0};
      double u[kOut + 2];
      filter_1d(kOut, unit, u);
      for (int i = 0; i < kOut + 2; ++i) rows[i][k] = u[i];
    }
  }
  static float at(const void* self, int64_t c, int64_t f) {
    const Filters& m = *static_cast<const Filters*>(self);
    const int64_t own = m.g.channels / m.g.merged, own_filters = m.g.filters / m.g.merged;
    if (c >= m.g.channels || f / own_filters != c / own) return 0;
    const float* taps = m.w + (f * own + c % own) * kTaps;
    const double *down = m.rows[m.position / (kOut + 2)], *across = m.rows[m.position % (kOut + 2)];
    double sum = 0;
    for (int i = 0; i < kTaps; ++i) sum += down[i / 3] * across[i % 3] * static_cast<double>(taps[i]);
    return static_cast<float>(sum);
  }
};

// [group][position]
PN_COLD void pack(const KernelQuery& q, const void* plain, void* packed) {
  Geometry g;
  read_geometry(q, &g);
  Filters filters(g, static_cast<const float*>(plain));
  char* to = static_cast<char*>(packed);
  for (int64_t n = 0; n < g.groups; ++n, filters.w += g.filters * (g.channels / g.merged) * kTaps) {
    for (filters.position = 0; filters.position < kPositions; ++filters.position, to += position_bytes(g)) {
      slice_columns(steps(g), g.filters, Filters::at, &filters, to);
    }
  }
}

// Where sums of a position go.
struct Sums {
  float* v;
  int64_t group;

  static void put(const void* self, int64_t panel, int64_t at, float* sums) {
    const Sums& s = *static_cast<const Sums*>(self);
    float* const to = s.v + at / kTileRows * s.group + panel * kBox;
    for (int i = 0; i < kTileRows * kVec; i += kVec) store(to + i, load(sums + i));
  }
};

void run_block(const State& s, const Operands& o, int64_t t0, int64_t t1, int64_t p0, int64_t p1, char* scratch) {
  const Geometry& g = s.g;
  const int64_t n = t1 - t0, groups = ceil_div(n, int64_t{kTileRows}), group = boxes(g) * kBox;
  float* const v = reinterpret_cast<float*>(scratch);
  float* const from = v + groups * group;
  char* const a = reinterpret_cast<char*>(from + groups * kTileRows);
  for (int64_t t = t0; t < t1; ++t) {
    float* const to = v + (t - t0) / kTileRows * group + (t - t0) % kTileRows * kVec;
    for (int64_t block = 0; block < g.blocks(); ++block) transform_tile<kOut>(s, o.x, block, t, to + block * kBox);
  }
  const int32_t offset = 0;
  Sums sums{v, group};
  SliceJob job;
  job.a = a;
  job.a_slice = slice_bytes(groups);
  job.a_step = kSlices * job.a_slice;
  job.steps = steps(g);
  job.taps = 1;
  job.offsets = &offset;
  job.rows = n;
  job.a_from = from;
  job.a_from_step = 1;
  job.b = reinterpret_cast<const char*>(o.w);
  job.b_depth = job.steps;
  job.b_first = 0;
  job.columns = g.filters;
  job.p0 = p0 * (kPanel / kVec);
  job.p1 = min64(p1 * (kPanel / kVec), ceil_div(g.filters, kVec));
  job.bias = nullptr;
  job.finish = Sums::put;
  job.self = &sums;
  const TileScope tiles;
  for (int i = 0; i < kPositions; ++i, job.b += position_bytes(g), sums.v += kStep) {
    for (int64_t k = 0; k < groups; ++k) {
      const Rows rows{sums.v + k * group, kVec, kBox, g.channels};
      const int64_t live = min64(n - k * kTileRows, kTileRows);
      float to[kTileRows];
      scale_rows(rows, live, to, from + k * kTileRows);
      for (int64_t step = 0; step < job.steps; ++step) {
        slice_rows(rows, live, step, to, 1, a + step * job.a_step + k * kSliceBytes, job.a_slice);
      }
    }
    const int64_t panel = job.b_depth * kSlices * kSliceBytes;
    job.then = i + 1 < kPositions ? job.b + position_bytes(g) + job.p0 * panel : nullptr;
    run_slices(job);
  }
  for (int64_t filter = p0 * kPanel; filter < min64(p1 * kPanel, g.filters); filter += kVec) {
    for (int64_t i = 0; i < groups; ++i) {
      const int64_t t = t0 + i * kTileRows;
      finish_tiles<kOut>(s, o, filter, t, min64(t + kTileRows, t1), v + i * group + filter / kVec * kBox);
    }
  }
}

int64_t block_bytes(const State& s, int64_t groups) {
  return groups * (boxes(s.g) * kBox * 4 + kTileRows * 4 + slice_bytes(1) * kSlices * steps(s.g));
}

PN_COLD void plan_all(const KernelQuery& q, State* s) {
  plan(q, kOut, kTileRows, s);
  s->group_weights = kPositions * position_bytes(s->g) / 4;
  plan_block(q.target->l2_bytes * 10 / 16, block_bytes(*s, 1), s);
}

int64_t thread_scratch_bytes(const KernelQuery& q) {
  State s;
  plan_all(q, &s);
  return block_bytes(s, ceil_div(block_tiles(s), int64_t{kTileRows}));
}

Status prepare(const KernelQuery& q, void* state) {
  plan_all(q, static_cast<State*>(state));
  static_cast<State*>(state)->run_block = run_block;
  return Status::kOk;
}

// Microseconds: products and the slices of their input, or the weights' way from memory where that takes longer.
PN_COLD float cost(const KernelQuery& q) {
  State s;
  plan_all(q, &s);
  const auto images = static_cast<double>(s.g.batch * s.g.groups), blocks = static_cast<double>(ceil_div(s.units, s.block));
  const double products = slice_cost(kPositions * s.units, steps(s.g), s.g.filters) +
                          static_cast<double>(kPositions * s.tiles * steps(s.g)) * 0.024 +
                          static_cast<double>(kPositions * s.units * ceil_div(s.g.filters, kVec)) * 0.03;
  const double stream = blocks * static_cast<double>(kPositions * position_bytes(s.g)) / 14e3;
  return static_cast<float>(transform_cost(q, s) + images * (products > stream ? products : stream));
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(amx_winograd)
PN_KERNEL_ROWS(amx_winograd) = {
    {"f32_conv_winograd_amx_" PN_BLOCK, "Conv", PN_TIER::kBlocked, PN_TIER::kBlocked, 1,
     PN_CODE(sizeof(PN_TIER::winograd::State), PN_TIER::accepts_planes, PN_TIER::cost,
     PN_TIER::packed_bytes, PN_TIER::pack, nullptr, PN_TIER::thread_scratch_bytes, PN_TIER::prepare,
     PN_TIER::winograd::run)},
};
PN_KERNEL_COUNT(amx_winograd);

}  // namespace pyneo
