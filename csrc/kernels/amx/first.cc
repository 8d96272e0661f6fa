// SPDX-License-Identifier: Apache-2.0
//
// Conv over one or two spatial axes on AMX, a plain float32 image of up to 4 channels to blocked channels (tile.h says
// how).
//
// Channels lie side by side in the pieces of the padded image, as records of 2 or 4 values. The window of a kernel row
// is then a part of a line, up to 32 values, and so a row of A; 16 output pixels are 16 rows at equal steps, which overlap
// where windows do. A kernel row is a step of the reduction: few rows of few columns leave too much of it empty (the
// costs say so).
#include <immintrin.h>

#include "kernels/amx/finish.h"
#include "kernels/amx/tile.h"
#include "kernels/conv/geometry.h"
#include "kernels/gemm/partition.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int64_t kRunColumns = 8 * kVec;  // that are interleaved, then split
constexpr int64_t kCallTiles = 128;        // most tiles of one run_panels
constexpr int64_t kMostSize = int64_t{1} << 24, kMostStride = 16;

struct State {
  Geometry g;
  Epilogue epilogue;
  int pieces;
  int64_t pairs;           // of values in a record
  int64_t line_step;       // rows of the image from one line to the next
  int64_t units, band;     // output rows (16 columns of one row), and how many of them fit a band

  int64_t record() const { return pairs * 4; }  // bytes
};

// A range of output rows and columns, and how its pieces lie.
struct Band {
  int64_t row, rows, col, cols;
  int64_t tiles_w, lines, columns;  // tiles of a row; columns (records) of a line
  int64_t lo;                       // columns of zeros in front of the image
  int64_t pitch, piece, lead;       // bytes from one line, one piece to the next; in front of a line
};

int64_t divisor(int64_t a, int64_t b) {
  while (b != 0) {
    const int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

PN_COLD Band band_of(const State& s, int64_t from, int64_t n) {
  const Geometry& g = s.g;
  Band b{from, n, 0, g.out_w, 0, 0, 0, 0, 0, 0, 0};
  if (g.out_h == 1) {
    b.row = 0;
    b.rows = 1;
    b.col = from * kTileRows;
    b.cols = min64(n * kTileRows, g.out_w - b.col);
  }
  b.tiles_w = ceil_div(b.cols, int64_t{kTileRows});
  b.lines = ((b.rows - 1) * g.stride_h + (g.kernel_h - 1) * g.dilation_h) / s.line_step + 1;
  b.columns = (b.cols - 1) * g.stride_w + g.kernel_w;
  // Tiles read beyond the last column, and columns are written a vector at a time, on borders of cache lines.
  const int64_t read = (b.tiles_w * kTileRows - 1) * g.stride_w + g.kernel_w;
  b.lo = min64(max64(g.pad_w - b.col * g.stride_w, 0), b.columns);
  b.lead = round_up(b.lo * s.record(), kRowBytes) - b.lo * s.record();
  b.pitch = round_up(b.lead + max64(read, b.columns + kVec) * s.record(), kRowBytes);
  b.piece = b.pitch * b.lines;
  return b;
}

PN_COLD bool plan(const KernelQuery& q, State* s) {
  if (!read_geometry(q, &s->g)) return false;
  const Geometry& g = s->g;
  s->pairs = ceil_div(g.channels, int64_t{2});
  if (g.groups != 1 || g.channels > 4 || g.dilation_w != 1 || g.kernel_w * s->pairs > kDepth / 2 || g.kernel_h > kMaxTaps ||
      g.dilation_h > kMostSize >> 8 || g.stride_h > kMostStride || g.stride_w > kMostStride ||
      g.in_h * g.in_w > kMostSize || g.out_h * g.out_w > kMostSize) {
    return false;
  }
  s->epilogue.read(q.attrs, "Conv");
  s->pieces = read_pieces(q.attrs);
  s->line_step = g.kernel_h == 1 ? g.stride_h : divisor(g.stride_h, g.dilation_h);
  s->units = g.out_h == 1 ? ceil_div(g.out_w, int64_t{kTileRows}) : g.out_h;
  // Some thousand pixels for the same weights; their pieces take up to half of L2.
  s->band = g.out_h == 1 ? kCallTiles : max64(1, kCallTiles / ceil_div(g.out_w, int64_t{kTileRows}));
  const auto bytes = [&] { return band_of(*s, 0, min64(s->band, s->units)).piece * s->pieces; };
  while (s->band > 1 && bytes() > q.target->l2_bytes / 2) s->band /= 2;
  return bytes() < int64_t{1} << 30;
}

bool accepts(const KernelQuery& q) {
  State s;
  return accepts_operands(q, false, true) && plan(q, &s);
}

Status prepare(const KernelQuery& q, void* state) {
  if (plan(q, static_cast<State*>(state))) return Status::kOk;
  return fail(Status::kInternal, "Conv: the kernel was prepared for operands it does not accept");
}

// In a thread's scratch lie a run of columns as rows and as records, the scratch of run_panels, and the pieces of a band.
int64_t panels_at(const State& s) { return 2 * s.pairs * kRunColumns * 4; }
int64_t band_at(const State& s) { return panels_at(s) + panel_scratch(s.pieces, s.g.kernel_h, kCallTiles * kTileRows); }

int64_t thread_scratch_bytes(const KernelQuery& q) {
  State s;
  return plan(q, &s) ? band_at(s) + band_of(s, 0, min64(s.band, s.units)).piece * s.pieces : 0;
}

int64_t packed_bytes(const KernelQuery& q) {
  State s;
  return plan(q, &s) ? tile_floats(s.g.kernel_h, s.g.filters) * 4 : 0;
}

// As run_panels wants it, k being (kernel row, column, channel of the record). Adjacent values are a pair.
PN_COLD void pack(const KernelQuery& q, const void* plain, void* packed) {
  State s;
  if (!plan(q, &s)) return;
  const Geometry& g = s.g;
  const float* w = static_cast<const float*>(plain);
  for (int64_t f = 0; f < g.filters; ++f) {
    const int64_t f0 = f / kTilePanel * kTilePanel, step = tile_vecs(g.filters - f0) * kVec * kDepth;
    float* const to = static_cast<float*>(packed) + f0 * g.kernel_h * kDepth;
    for (int64_t i = 0; i < g.channels * g.kernel_h * g.kernel_w; ++i, ++w) {
      const int64_t c = i / (g.kernel_h * g.kernel_w), y = i / g.kernel_w % g.kernel_h;
      to[y * step + tile_place(i % g.kernel_w * s.pairs + c / 2 + c % 2 * kTileRows, f - f0)] = *w;
    }
  }
}

// The pieces of a band of an image.
void split_band(const State& s, const Band& b, const float* x, float* buffer, char* to) {
  const Geometry& g = s.g;
  const int64_t first = b.col * g.stride_w - g.pad_w, plane = g.in_h * g.in_w;  // first: image column of record 0
  const int64_t inside = min64(max64(g.in_w - first, b.lo), b.columns), half = s.pairs * kRunColumns;
  VI order;
  for (int i = 0; i < kVec; ++i) order[i] = i / 2 + i % 2 * kVec;
  to += b.lead;
  for (int64_t line = 0; line < b.lines; ++line, to += b.pitch) {
    const int64_t y = b.row * g.stride_h - g.pad_h + line * s.line_step;
    const int64_t hi = y < 0 || y >= g.in_h ? b.lo : inside;
    for (int64_t i = b.lo; i < hi; i += kRunColumns) {
      const int64_t n = min64(hi - i, kRunColumns);
      const float* from = x + y * g.in_w + first + i;
      float* at = buffer;
      for (int64_t left = n; left > 0; left -= kVec, from += kVec, at += s.pairs * kVec) {
        const auto live = static_cast<__mmask16>(left < kVec ? (1u << left) - 1 : 0xffff);
        __m512 c[4];
        PN_UNROLL for (int k = 0; k < 4; ++k) {
          c[k] = _mm512_maskz_loadu_ps(k < g.channels ? live : static_cast<__mmask16>(0), k < g.channels ? from + k * plane : from);
        }
        PN_UNROLL for (int k = 0; k < 2; ++k) {
          float* const put = at + k * half;
          if (s.pairs == 1) {
            store(put, reinterpret_cast<VF>(c[k]));
          } else {
            PN_UNROLL for (int j = 0; j < 2; ++j) {
              const __m512i lanes = reinterpret_cast<__m512i>(order + j * (kVec / 2));
              store(put + j * kVec, reinterpret_cast<VF>(_mm512_maskz_permutex2var_ps(0xffff, c[k], lanes, c[k + 2])));
            }
          }
        }
      }
      const Halves all{buffer, half, kVec, {kVec, kVec}};
      split_rows(s.pieces, all, ceil_div(n, int64_t{kVec}) * s.pairs, to + i * s.record(), b.piece);
    }
    for (int64_t p = 0; p < s.pieces; ++p) {
      __builtin_memset(to + p * b.piece, 0, static_cast<size_t>(b.lo * s.record()));
      __builtin_memset(to + p * b.piece + hi * s.record(), 0, static_cast<size_t>((b.columns - hi) * s.record()));
    }
  }
}

// Sums of a band on their way out; `first` is the tile where the job begins.
struct Store {
  const State& s;
  const Band& b;
  const float* z;
  float* y;
  Finisher finish;
  int64_t first;

  static void run(const void* self, int64_t vec, int64_t at, float* sums) {
    const Store* store = static_cast<const Store*>(self);
    store->put(vec, store->first + at / kTileRows, sums);
  }
  void put(int64_t vec, int64_t tile, float* sums) const {
    const int64_t row = tile / b.tiles_w, col = tile % b.tiles_w * kTileRows, n = min64(kTileRows, b.cols - col);
    const int64_t to = ((vec * s.g.out_h + b.row + row) * s.g.out_w + b.col + col) * kVec;
    finish.activate(sums, n * kVec);
    finish.vectors(sums, z != nullptr ? z + to : nullptr, y + to, n);
  }
};

PN_COLD void multiply(const State& s, const Band& b, const char* a, const float* w, const float* bias, const float* z, float* y,
              char* scratch) {
  const Geometry& g = s.g;
  int32_t offsets[kMaxTaps], starts[kCallTiles];
  for (int64_t i = 0; i < s.g.kernel_h; ++i) {
    offsets[i] = static_cast<int32_t>(i * g.dilation_h / s.line_step * b.pitch);
  }
  Store store{s, b, z, y, Finisher(s.epilogue), 0};
  PanelJob job;
  job.pieces = s.pieces;
  job.a = a + b.lead;
  job.a_step = 0;
  job.a_piece = b.piece;
  job.a_row = g.stride_w * s.record();
  job.starts = starts;
  job.pairs = static_cast<int>(g.kernel_w * s.pairs);
  job.steps = 1;
  job.taps = s.g.kernel_h;
  job.offsets = offsets;
  job.b = w;
  job.b_depth = g.kernel_h;
  job.b_first = 0;
  job.columns = g.filters;
  job.p0 = 0;
  job.p1 = ceil_div(g.filters, kTilePanel);
  job.bias = bias;
  job.finish = Store::run;
  job.self = &store;
  for (; store.first < b.rows * b.tiles_w; store.first += kCallTiles) {
    const int64_t n = min64(kCallTiles, b.rows * b.tiles_w - store.first);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t row = (store.first + i) / b.tiles_w, col = (store.first + i) % b.tiles_w * kTileRows;
      starts[i] = static_cast<int32_t>(row * g.stride_h / s.line_step * b.pitch + col * job.a_row);
    }
    job.rows = n * kTileRows;
    run_panels(job, scratch);
  }
}

constexpr int64_t kTasksPerThread = 8;

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const Geometry& g = s.g;
  const auto in = [&](int i) { return c.has(i) ? c.in[i]->as<const float>() : nullptr; };
  const Pool serial = Pool::serial();
  const Pool& pool = g.flops() < 4 * kAloneFlops ? serial : *c.pool;
  int64_t bands = ceil_div(s.units, s.band);
  if (pool.size() > 1) bands = max64(bands, min64(s.units, kTasksPerThread * pool.size()));
  const int64_t in_image = g.channels * g.in_h * g.in_w, out_image = round_up(g.filters, kVec) * g.out_h * g.out_w;
  pool.run(g.batch * bands, [&](int64_t task, int thread) {
    char* const scratch = reinterpret_cast<char*>(c.thread_scratch + thread * c.thread_stride);
    char* const pieces = scratch + band_at(s);
    const int64_t n = task / bands, from = tile_begin(s.units, bands, task % bands);
    const Band b = band_of(s, from, tile_begin(s.units, bands, task % bands + 1) - from);
    split_band(s, b, in(0) + n * in_image, reinterpret_cast<float*>(scratch), pieces);
    multiply(s, b, pieces, in(1), in(2), in(3) != nullptr ? in(3) + n * out_image : nullptr,
             c.out[0]->as<float>() + n * out_image, scratch + panels_at(s));
  });
  return Status::kOk;
}

// Microseconds: products of tiles, the pieces of the image, and what goes out.
PN_COLD float cost(const KernelQuery& q) {
  State s;
  if (!plan(q, &s)) return 1e30f;
  const int64_t cuts = ceil_div(s.units, s.band), bands = s.g.batch * cuts;
  const Band b = band_of(s, 0, tile_begin(s.units, cuts, 1));
  const double pairs = static_cast<double>(b.rows * b.tiles_w) / 2;
  const double pieces = static_cast<double>(bands * b.lines * ceil_div(b.columns, int64_t{kVec}) * s.pairs) * 0.01;
  const double out_bytes = static_cast<double>(q.out[0]->bytes());
  return static_cast<float>(tile_cost(s.pieces, bands, pairs, s.g.kernel_h, s.g.filters) + pieces +
                            out_bytes * (s.epilogue.direct ? 2e-5 : 1.2e-4));
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(amx_first)
PN_KERNEL_ROWS(amx_first) = {
    {"f32_conv_first_amx_" PN_BLOCK, "Conv", Layout::kPlain, PN_TIER::kBlocked, 1, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts,
     PN_TIER::cost, PN_TIER::packed_bytes, PN_TIER::pack, nullptr, PN_TIER::thread_scratch_bytes, PN_TIER::prepare,
     PN_TIER::run)},
};
PN_KERNEL_COUNT(amx_first);
static_assert(sizeof(PN_TIER::State) <= kMaxKernelState, "state of a convolution");

}  // namespace pyneo
