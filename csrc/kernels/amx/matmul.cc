// SPDX-License-Identifier: Apache-2.0
//
// Matrix product with a constant right operand on AMX, float32 (slices.h says how).
//
// Rows of A in bands, and k in chunks whose slices stay in L2; every panel of B passes once for each band. Sums wait in
// y from one chunk to the next.
#include "kernels/amx/bands.h"
#include "kernels/amx/finish.h"
#include "kernels/gemm/constant.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int64_t kBandRows = 256;
constexpr double kAloneWork = 4e6;  // multiplies and adds that one thread does sooner than two

struct State {
  Product p;
  int64_t bands, chunks;
};

int64_t steps_of(const Product& p) { return ceil_div(p.k, kSliceDepth); }
// Most rows of a band, most steps of a chunk.
int64_t band_rows(const State& s) { return round_up(ceil_div(s.p.m, s.bands), int64_t{kTileRows}); }
int64_t chunk_steps(const State& s) { return ceil_div(steps_of(s.p), s.chunks); }
int64_t slice_bytes(const State& s) { return band_rows(s) * kRowBytes; }
// Slices, and what each row is to be multiplied by.
int64_t a_bytes(const State& s) { return slice_bytes(s) * kSlices * chunk_steps(s) + band_rows(s) * 4; }

PN_COLD void plan(const KernelQuery& q, bool gemm, State* s) {
  read_product(q, gemm, &s->p);
  s->bands = ceil_div(s->p.m, kBandRows);
  const int64_t fits = q.target->l2_bytes / 2 / (slice_bytes(*s) * kSlices);
  s->chunks = ceil_div(steps_of(s->p), fits < 4 ? 4 : fits);
}

template <bool kGemm>
bool accepts(const KernelQuery& q) {
  Product p;
  return accepts_product(q, kGemm) && read_product_shape(q, kGemm, &p) && p.k <= kMostDepth;
}

template <bool kGemm>
Status prepare(const KernelQuery& q, void* state) {
  plan(q, kGemm, static_cast<State*>(state));
  return Status::kOk;
}

template <bool kGemm>
int64_t packed_bytes(const KernelQuery& q) {
  Product p;
  read_product_shape(q, kGemm, &p);
  return sliced_bytes(steps_of(p), p.n);
}

struct Columns {
  ConstantB b;
  int64_t k;

  static float at(const void* self, int64_t k, int64_t column) {
    const Columns& c = *static_cast<const Columns*>(self);
    return k < c.k ? c.b.at(k, column) : 0;
  }
};

template <bool kGemm>
PN_COLD void pack(const KernelQuery& q, const void* plain, void* packed) {
  Product p;
  read_product_shape(q, kGemm, &p);
  const Columns columns{constant_b(q, kGemm, p, plain), p.k};
  slice_columns(steps_of(p), p.n, Columns::at, &columns, packed);
}

template <bool kGemm>
int64_t thread_scratch_bytes(const KernelQuery& q) {
  State s;
  plan(q, kGemm, &s);
  return a_bytes(s);
}

struct Operands {
  const float *a, *b, *bias, *z;
  float* y;
};

// Rows from `row` on, and the chunk [step, step + steps), of which `first` begins and `last` ends the reduction.
struct Part {
  const State& s;
  const Operands& o;
  Finisher finish;
  int64_t row, rows, step, steps;
  bool first, last;

  static void put(const void* self, int64_t vec, int64_t at, float* sums) {
    const Part& p = *static_cast<const Part*>(self);
    const int64_t n = p.s.p.n, column = vec * kVec;
    const int64_t rows = p.rows - at < kTileRows ? p.rows - at : kTileRows;
    const int live = static_cast<int>(n - column < kVec ? n - column : kVec);
    float* y = p.o.y + (p.row + at) * n + column;
    if (!p.first) {
      for (int64_t r = 0; r < rows; ++r) {
        float* x = sums + r * kVec;
        store(x, load(x) + (live == kVec ? load(y + r * n) : load_n(y + r * n, live)));
      }
    }
    if (!p.last) {
      for (int64_t r = 0; r < rows; ++r) store_n(y + r * n, load(sums + r * kVec), live);
      return;
    }
    const float* z = p.o.z != nullptr ? p.o.z + (y - p.o.y) : nullptr;
    p.finish.activate(sums, rows * kVec);
    for (int64_t r = 0; r < rows; ++r, y += n, sums += kVec) {
      const float* zr = z != nullptr ? z + r * n : nullptr;
      live == kVec ? p.finish.vectors(sums, zr, y, 1) : p.finish.tail(sums, zr, y, live);
    }
  }
};

Part part_at(const State& s, const Operands& o, int64_t i) {
  const int64_t band = i / s.chunks, chunk = i % s.chunks;
  const int64_t steps = steps_of(s.p), begin = tile_begin(steps, s.chunks, chunk);
  const int64_t r0 = tile_begin(s.p.m, s.bands, band);
  return {s, o, Finisher(s.p.epilogue), r0, tile_begin(s.p.m, s.bands, band + 1) - r0,
          begin, tile_begin(steps, s.chunks, chunk + 1) - begin, chunk == 0, chunk + 1 == s.chunks};
}

// Slices of rows [r0, r1) of a part.
void slice_part(const Part& p, int64_t r0, int64_t r1, char* a) {
  const int64_t k = p.s.p.k, slice = slice_bytes(p.s), k0 = p.step * kSliceDepth;
  float* const from = reinterpret_cast<float*>(a + slice * kSlices * chunk_steps(p.s));
  for (; r0 < r1; r0 += kTileRows) {
    const Rows rows{p.o.a + (p.row + r0) * k + k0, k, kVec, min64(p.steps * kSliceDepth, k - k0)};
    const int64_t n = min64(r1 - r0, kTileRows);
    float to[kTileRows];
    scale_rows(rows, n, to, from + r0);
    for (int64_t i = 0; i < p.steps; ++i) slice_rows(rows, n, i, to, 1, a + i * kSlices * slice + r0 * kRowBytes, slice);
  }
}

// Rows [r0, r1) of a part by panels [p0, p1).
void multiply(Part p, const char* a, int64_t r0, int64_t r1, int64_t p0, int64_t p1) {
  const State& s = p.s;
  const int32_t offset = 0;
  p.row += r0;  // sums count their rows from r0
  p.rows = r1 - r0;
  SliceJob job;
  job.a = a + r0 * kRowBytes;
  job.a_slice = slice_bytes(s);
  job.a_step = job.a_slice * kSlices;
  job.steps = p.steps;
  job.taps = 1;
  job.offsets = &offset;
  job.rows = p.rows;
  job.a_from = reinterpret_cast<const float*>(a + job.a_step * chunk_steps(s)) + r0;
  job.a_from_step = 1;
  job.b = static_cast<const char*>(static_cast<const void*>(p.o.b));
  job.b_depth = steps_of(s.p);
  job.b_first = p.step;
  job.columns = s.p.n;
  job.p0 = p0;
  job.p1 = p1;
  job.bias = p.first ? p.o.bias : nullptr;
  job.bias_scale = s.p.bias_scale;
  job.bias_step = s.p.one_bias ? 0 : 1;
  job.finish = Part::put;
  job.self = &p;
  const TileScope tiles;
  run_slices(job);
}

// What run_bands asks for.
struct Parts {
  const State& s;
  Operands o;

  static Part at(const void* self, int64_t part) {
    const Parts& p = *static_cast<const Parts*>(self);
    return part_at(p.s, p.o, part);
  }
  static BandJob::Size size(const void* self, int64_t part) {
    const int64_t rows = at(self, part).rows;
    return {ceil_div(rows, int64_t{kTileRows}), rows};
  }
  static void cut(const void* self, int64_t part, int64_t from, int64_t to, char* a) {
    const Part p = at(self, part);
    slice_part(p, from * kTileRows, min64(to * kTileRows, p.rows), a);
  }
  static void product(const void* self, int64_t part, int64_t r0, int64_t r1, int64_t p0, int64_t p1, const char* a) {
    multiply(at(self, part), a, r0, r1, p0, p1);
  }
};

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const auto in = [&](int i) { return c.has(i) ? c.in[i]->as<const float>() : nullptr; };
  const Parts parts{s, {in(0), in(1), in(2), in(3), c.out[0]->as<float>()}};
  const BandJob job{s.bands, s.chunks, ceil_div(s.p.n, kVec), &parts, Parts::size, nullptr, Parts::cut, Parts::product};
  run_bands(job, s.p.flops() < kAloneWork ? Pool::serial() : *c.pool, c);
  return Status::kOk;
}

// Microseconds: the larger of products and B from memory, the slices of A. No choice for uneven columns.
template <bool kGemm>
PN_COLD float cost(const KernelQuery& q) {
  State s;
  plan(q, kGemm, &s);
  const Product& p = s.p;
  if (q.values != nullptr && q.values[1] != nullptr) {
    const Columns columns{constant_b(q, kGemm, p, q.values[1]), p.k};
    if (!even_columns(p.k, p.k, p.n, Columns::at, &columns)) return 1e30f;
  }
  const int64_t tiles = s.bands * ceil_div(band_rows(s), int64_t{kTileRows});
  const double products = slice_cost(tiles, steps_of(p), p.n);
  const double cut = static_cast<double>(p.m * steps_of(p)) * 0.012;
  const double b_bytes = static_cast<double>(sliced_bytes(steps_of(p), p.n));
  const double stream = b_bytes / (b_bytes < static_cast<double>(q.target->l2_bytes) ? 60e3 : 12e3);
  const double out_bytes = static_cast<double>(q.out[0]->bytes());
  return static_cast<float>((products > stream ? products : stream) + cut + out_bytes * static_cast<double>(s.chunks) * 1e-5);
}

}  // namespace
}  // namespace PN_TIER

#define PN_ROW(name, op, gemm)                                                                                 \
  {                                                                                                            \
    name, op, Layout::kPlain, Layout::kPlain, 1, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts<gemm>,               \
        PN_TIER::cost<gemm>, PN_TIER::packed_bytes<gemm>, PN_TIER::pack<gemm>, nullptr,                        \
        PN_TIER::thread_scratch_bytes<gemm>, PN_TIER::prepare<gemm>, PN_TIER::run)                              \
  }

PN_KERNEL_TABLE(amx_matmul)
PN_KERNEL_ROWS(amx_matmul) = {
    PN_ROW("f32_matmul_amx", "MatMul", false),
    PN_ROW("f32_gemm_amx", "Gemm", true),
};
PN_KERNEL_COUNT(amx_matmul);
#undef PN_ROW
static_assert(sizeof(PN_TIER::State) <= kMaxKernelState, "state of a product");

}  // namespace pyneo
