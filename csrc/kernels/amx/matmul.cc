// SPDX-License-Identifier: Apache-2.0
//
// Matrix product with a constant right operand on AMX, float32 (tile.h says how).
//
// Rows of A in bands, and k in chunks whose pieces stay in L2; every panel of B passes once for each band. Sums wait in
// y from one chunk to the next.
#include "kernels/amx/finish.h"
#include "kernels/amx/tile.h"
#include "kernels/gemm/constant.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int64_t kBandRows = 256;
constexpr double kAloneWork = 4e6;  // multiplies and adds that one thread does sooner than two

struct State {
  Product p;
  int pieces;
  int64_t bands, chunks;
};

int64_t steps_of(const Product& p) { return ceil_div(p.k, kDepth); }
// Most rows of a band, most steps of a chunk.
int64_t band_rows(const State& s) { return ceil_div(s.p.m, s.bands); }
int64_t chunk_steps(const State& s) { return ceil_div(steps_of(s.p), s.chunks); }
int64_t piece_bytes(const State& s) { return round_up(band_rows(s), kPairRows) * kRowBytes; }
int64_t a_bytes(const State& s) { return piece_bytes(s) * s.pieces * chunk_steps(s); }

PN_COLD void plan(const KernelQuery& q, bool gemm, State* s) {
  read_product(q, gemm, &s->p);
  s->pieces = read_pieces(q.attrs);
  s->bands = ceil_div(s->p.m, kBandRows);
  const int64_t fits = q.target->l2_bytes * 3 / 8 / (piece_bytes(*s) * s->pieces);
  s->chunks = ceil_div(steps_of(s->p), fits < 8 ? 8 : fits);
}

template <bool kGemm>
bool accepts(const KernelQuery& q) { return accepts_product(q, kGemm); }

template <bool kGemm>
Status prepare(const KernelQuery& q, void* state) {
  plan(q, kGemm, static_cast<State*>(state));
  return Status::kOk;
}

template <bool kGemm>
int64_t packed_bytes(const KernelQuery& q) {
  Product p;
  read_product_shape(q, kGemm, &p);
  return tile_floats(steps_of(p), p.n) * 4;
}

template <bool kGemm>
PN_COLD void pack(const KernelQuery& q, const void* plain, void* packed) {
  Product p;
  read_product_shape(q, kGemm, &p);
  const ConstantB b = constant_b(q, kGemm, p, plain);
  float* to = static_cast<float*>(packed);
  for (int64_t n0 = 0; n0 < p.n; n0 += kTilePanel) {
    const int64_t width = tile_vecs(p.n - n0) * kVec, live = p.n - n0 < width ? p.n - n0 : width;
    for (int64_t k = 0; k < p.k; ++k) {
      float* step = to + k / kDepth * kDepth * width;
      for (int64_t j = 0; j < live; ++j) step[tile_place(k % kDepth, j)] = b.at(k, n0 + j);
    }
    to += steps_of(p) * kDepth * width;
  }
}

template <bool kGemm>
int64_t thread_scratch_bytes(const KernelQuery& q) {
  State s;
  plan(q, kGemm, &s);
  return a_bytes(s) + panel_scratch(s.pieces, chunk_steps(s), band_rows(s));
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

// Pieces of rows [r0, r1) of a part; r0 is a multiple of 16.
void split_part(const Part& p, int64_t r0, int64_t r1, char* a) {
  const int64_t k = p.s.p.k, piece = piece_bytes(p.s);
  for (; r0 < r1; r0 += kTileRows) {  // along the rows of A, a tile's worth of them at a time
    const int64_t n = r1 - r0 < kTileRows ? r1 - r0 : kTileRows;
    for (int64_t i = 0; i < p.steps; ++i) {
      const int64_t k0 = (p.step + i) * kDepth, left = k - k0;
      const int live0 = static_cast<int>(left < kVec ? left : kVec);
      const int live1 = static_cast<int>(left <= kVec ? 0 : left < kDepth ? left - kVec : kVec);
      const Halves halves{p.o.a + (p.row + r0) * k + k0, live1 > 0 ? kVec : 0, k, {live0, live1}};
      split_rows(p.s.pieces, halves, n, a + i * p.s.pieces * piece + r0 * kRowBytes, piece);
    }
  }
}

// Rows [r0, r1) of a part by panels [p0, p1).
void multiply(Part p, const char* a, int64_t r0, int64_t r1, int64_t p0, int64_t p1, char* scratch) {
  const State& s = p.s;
  const int32_t offset = 0;
  p.row += r0;  // sums count their rows from r0
  p.rows = r1 - r0;
  PanelJob job;
  job.pieces = s.pieces;
  job.a = a + r0 * kRowBytes;
  job.a_piece = piece_bytes(s);
  job.a_step = job.a_piece * s.pieces;
  job.steps = p.steps;
  job.taps = 1;
  job.offsets = &offset;
  job.rows = p.rows;
  job.b = p.o.b;
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
  run_panels(job, scratch);
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
    split_part(p, from * kTileRows, min64(to * kTileRows, p.rows), a);
  }
  static void product(const void* self, int64_t part, int64_t r0, int64_t r1, int64_t p0, int64_t p1, const char* a, char* scratch) {
    multiply(at(self, part), a, r0, r1, p0, p1, scratch);
  }
};

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const auto in = [&](int i) { return c.has(i) ? c.in[i]->as<const float>() : nullptr; };
  const Parts parts{s, {in(0), in(1), in(2), in(3), c.out[0]->as<float>()}};
  const BandJob job{s.bands, s.chunks, ceil_div(s.p.n, kTilePanel), a_bytes(s), &parts, Parts::size, Parts::cut, Parts::product};
  run_bands(job, s.p.flops() < kAloneWork ? Pool::serial() : *c.pool, c);
  return Status::kOk;
}

// Microseconds: the larger of products and B from memory, the pieces of both.
template <bool kGemm>
PN_COLD float cost(const KernelQuery& q) {
  State s;
  plan(q, kGemm, &s);
  const Product& p = s.p;
  const auto steps = static_cast<double>(steps_of(p)), columns = static_cast<double>(round_up(p.n, kVec));
  const double pairs = static_cast<double>(ceil_div(band_rows(s), int64_t{kTileRows})) * 0.5;
  const double products = tile_cost(s.pieces, s.bands, pairs < 0.8 ? 0.8 : pairs, steps_of(p), p.n);
  const double split_a = static_cast<double>(p.m) * steps * 0.006;
  const double b_bytes = steps * kDepth * columns * 4;
  const double stream = b_bytes / (b_bytes < static_cast<double>(q.target->l2_bytes) ? 80e3 : 20e3);
  const double out_bytes = static_cast<double>(q.out[0]->bytes());
  return static_cast<float>((products > stream ? products : stream) + split_a +
                            out_bytes * static_cast<double>(s.chunks) * 1e-5);
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
