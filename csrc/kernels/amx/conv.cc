// SPDX-License-Identifier: Apache-2.0
//
// Conv over one or two spatial axes on AMX, float32 in blocked channels (slices.h says how).
//
// The input is cut into slices first, padded, so that a tile of 16 output pixels is 16 rows that lie at equal
// steps for every tap: a plane for each remainder of the position by the stride, its rows `pitch` apart. Output pixels
// are counted along those rows, across their ends: where a row is longer than the output's, the sums of the
// positions in between are left out at the end. Rows share their zeros at the borders.
#include "kernels/amx/bands.h"
#include "kernels/amx/finish.h"
#include "kernels/conv/direct.h"
#include "kernels/gemm/partition.h"

namespace pyneo {
namespace PN_TIER {
namespace {

constexpr int64_t kMaxRows = 512;  // most positions of a band
constexpr int kMaxTaps = 64;

struct State {
  Geometry g;
  Epilogue epilogue;
  int64_t steps;                // of 64 channels
  int64_t phases_h, phases_w;   // planes that the taps use
  int64_t extra_h, extra_w;     // rows and columns of a plane beyond the output's
  int64_t overlap;              // columns of zeros that adjacent rows share
  int64_t units, band;          // rows (columns of one row), and how many of them fit a band
};

// A range of output rows and columns, and how its slices lie.
struct Band {
  int64_t row, rows, col, cols;
  int64_t pitch, positions;     // positions: outputs, with those between rows
  int64_t slice, phase, step;   // bytes from one to the next
};

void lay_out(const State& s, Band* b) {
  b->pitch = b->cols + s.extra_w - s.overlap;
  b->positions = (b->rows - 1) * b->pitch + b->cols;
  const int64_t stored = (b->rows + s.extra_h) * b->pitch + s.overlap;
  const int64_t read = round_up(b->positions, int64_t{kTileRows}) + s.extra_h * b->pitch + s.extra_w;
  b->slice = max64(stored, read) * kRowBytes;
  b->phase = b->slice * kSlices;
  b->step = b->phase * s.phases_h * s.phases_w;
}

Band band_at(const State& s, int64_t bands, int64_t i) {
  const int64_t from = tile_begin(s.units, bands, i), n = tile_begin(s.units, bands, i + 1) - from;
  Band b = s.g.out_h == 1 ? Band{0, 1, from, n, 0, 0, 0, 0, 0} : Band{from, n, 0, s.g.out_w, 0, 0, 0, 0, 0};
  lay_out(s, &b);
  return b;
}

PN_COLD void plan(const KernelQuery& q, State* s) {
  read_geometry(q, &s->g);
  s->epilogue.read(q.attrs, "Conv");
  const Geometry& g = s->g;
  const int64_t reach_h = (g.kernel_h - 1) * g.dilation_h, reach_w = (g.kernel_w - 1) * g.dilation_w;
  s->steps = ceil_div(g.channels, kSliceDepth);
  s->phases_h = min64(g.stride_h, reach_h + 1);
  s->phases_w = min64(g.stride_w, reach_w + 1);
  s->extra_h = reach_h / g.stride_h;
  s->extra_w = reach_w / g.stride_w;
  s->overlap = s->extra_w;
  for (int64_t p = 0; p < s->phases_w; ++p) {
    const int64_t lead = g.pad_w > p ? ceil_div(g.pad_w - p, g.stride_w) : 0;
    const int64_t inside = ceil_div(g.in_w + g.pad_w - p, g.stride_w);  // columns in front of the zeros behind
    s->overlap = min64(s->overlap, min64(lead, max64(0, g.out_w + s->extra_w - inside)));
  }
  if (g.out_h == 1) s->overlap = 0;
  s->units = g.out_h == 1 ? g.out_w : g.out_h;
  // Slices of a band take up to half of L2.
  Band one{0, 1, 0, g.out_h == 1 ? 1 : g.out_w, 0, 0, 0, 0, 0};
  lay_out(*s, &one);
  const int64_t unit = (g.out_h == 1 ? 1 : one.pitch) * kRowBytes * kSlices * s->steps * s->phases_h * s->phases_w;
  const int64_t least = g.out_h == 1 ? 8 * kTileRows : max64(s->extra_h, ceil_div(4 * int64_t{kTileRows}, one.pitch));
  const int64_t most = g.out_h == 1 ? kMaxRows : max64(1, kMaxRows / one.pitch);
  s->band = min64(max64(q.target->l2_bytes / 2 / unit - (g.out_h == 1 ? s->extra_w : s->extra_h), least), most);
  s->band = ceil_div(s->units, ceil_div(s->units, s->band));
}

bool accepts(const KernelQuery& q) {
  Geometry g;
  return accepts_conv(q, true, true, &g) && g.kernel_h * g.kernel_w <= kMaxTaps && g.stride_h * g.stride_w <= 16 &&
         g.in_h * g.in_w < int64_t{1} << 24 && ceil_div(g.channels, kSliceDepth) * kSliceDepth * g.kernel_h * g.kernel_w <= kMostDepth;
}

Status prepare(const KernelQuery& q, void* state) {
  plan(q, static_cast<State*>(state));
  return Status::kOk;
}

int64_t depth(const State& s) { return s.steps * s.g.kernel_h * s.g.kernel_w; }
int64_t group_bytes(const State& s) { return sliced_bytes(depth(s), s.g.filters); }
// Units that a band is scanned and cut in: rows of its planes, of each step.
int64_t units_of(const State& s, const Band& b) { return s.steps * (b.rows + s.extra_h); }

Band full_band(const State& s) {
  Band b = s.g.out_h == 1 ? Band{0, 1, 0, s.band, 0, 0, 0, 0, 0} : Band{0, s.band, 0, s.g.out_w, 0, 0, 0, 0, 0};
  lay_out(s, &b);
  return b;
}

// In a thread's scratch lie slices of a full band, the largest number of each unit, and what its sums are to be multiplied by.
int32_t* largest_in(const State& s, char* a) {
  const Band b = full_band(s);
  return reinterpret_cast<int32_t*>(a + b.step * s.steps);
}
const float* from_in(const State& s, const char* a) {
  const Band b = full_band(s);
  return reinterpret_cast<const float*>(a + b.step * s.steps) + units_of(s, b);
}

int64_t thread_scratch_bytes(const KernelQuery& q) {
  State s;
  plan(q, &s);
  const Band b = full_band(s);
  return b.step * s.steps + (units_of(s, b) + 1) * 4;
}

int64_t packed_bytes(const KernelQuery& q) {
  State s;
  plan(q, &s);
  return s.g.groups * group_bytes(s);
}

// A group's weights as a matrix, k being (64 channels, tap, channel of those).
struct Filters {
  const float* w;
  int64_t channels, own, own_filters, taps;

  Filters(const Geometry& g, const float* plain, int64_t group)
      : w(plain + group * g.filters * (g.channels / g.merged) * g.kernel_h * g.kernel_w),
        channels(g.channels), own(g.channels / g.merged), own_filters(g.filters / g.merged), taps(g.kernel_h * g.kernel_w) {}
  static float at(const void* self, int64_t k, int64_t f) {
    const Filters& m = *static_cast<const Filters*>(self);
    const int64_t i = k / kSliceDepth, c = i / m.taps * kSliceDepth + k % kSliceDepth;
    return c < m.channels && f / m.own_filters == c / m.own ? m.w[(f * m.own + c % m.own) * m.taps + i % m.taps] : 0;
  }
};

PN_COLD void pack(const KernelQuery& q, const void* plain, void* packed) {
  State s;
  plan(q, &s);
  for (int64_t n = 0; n < s.g.groups; ++n) {
    const Filters filters(s.g, static_cast<const float*>(plain), n);
    slice_columns(depth(s), s.g.filters, Filters::at, &filters, static_cast<char*>(packed) + n * group_bytes(s));
  }
}

// Calls each(numbers, row, from, until) for every plane of row r of the band's planes and 64 channels: its columns [from, until)
// are the input's, `numbers` and on, stride_w vectors apart; row: where the plane's row goes in slices.
template <typename Each>
void for_row(const State& s, const Band& b, const float* x, int64_t step, int64_t r, char* to, Each each) {
  const Geometry& g = s.g;
  const int64_t plane = g.in_h * g.in_w, width = b.cols + s.extra_w;
  x += step * 4 * plane * kVec;
  to += step * b.step;
  for (int64_t phase = 0; phase < s.phases_h * s.phases_w; ++phase, to += b.phase) {
    const int64_t ph = phase / s.phases_w, pw = phase % s.phases_w;
    const int64_t first = b.col * g.stride_w + pw - g.pad_w;  // input column of plane column 0
    const int64_t lo = first < 0 ? min64(ceil_div(-first, g.stride_w), width) : 0;
    const int64_t hi = min64(max64(ceil_div(g.in_w - first, g.stride_w), lo), width);
    const int64_t y = (b.row + r) * g.stride_h + ph - g.pad_h;
    const bool outside = y < 0 || y >= g.in_h;
    const int64_t from = outside ? width : lo, until = outside ? width : hi;
    const float* const numbers = until > from ? x + (y * g.in_w + first + from * g.stride_w) * kVec : nullptr;
    each(numbers, to + r * b.pitch * kRowBytes, from, until);
  }
}

int32_t scan_row(const State& s, const Band& b, const float* x, int64_t step, int64_t r, char* to) {
  const Geometry& g = s.g;
  int32_t most = 0;
  for_row(s, b, x, step, r, to, [&](const float* at, char*, int64_t from, int64_t until) {
    const int64_t left = g.channels - step * kSliceDepth;
    for (int64_t v = 0; v < 4 && until > from && left > v * kVec; ++v) {
      const int32_t m = largest_of(at + v * g.in_h * g.in_w * kVec, until - from, g.stride_w * kVec, left - v * kVec);
      most = m > most ? m : most;
    }
  });
  return most;
}

void slice_row_of(const State& s, const Band& b, const float* x, int64_t step, int64_t r, float scale, char* to) {
  const Geometry& g = s.g;
  const int64_t width = b.cols + s.extra_w, plane = g.in_h * g.in_w * kVec;
  for_row(s, b, x, step, r, to, [&](const float* at, char* row, int64_t from, int64_t until) {
    for (int p = 0; p < kSlices; ++p) {
      __builtin_memset(row + p * b.slice, 0, static_cast<size_t>(from * kRowBytes));
      __builtin_memset(row + p * b.slice + until * kRowBytes, 0, static_cast<size_t>((width - until) * kRowBytes));
    }
    const Rows rows{at, g.stride_w * kVec, plane, g.channels - step * kSliceDepth};
    if (until > from) slice_rows(rows, until - from, 0, &scale, 0, row + from * kRowBytes, b.slice);
  });
}

struct Operands {
  const char* w;
  const float *bias, *z;
  float* y;
};

// Sums of a band on their way out; `first` is the position of row 0 of the job.
struct Store {
  const State& s;
  const Band& b;
  const Operands& o;
  Finisher finish;
  int64_t first, last;

  static void run(const void* self, int64_t vec, int64_t at, float* sums) {
    const Store* store = static_cast<const Store*>(self);
    store->put(vec, store->first + at, sums);
  }
  void put(int64_t vec, int64_t from, float* sums) const {
    const Geometry& g = s.g;
    finish.activate(sums, kTileRows * kVec);
    const int64_t plane = vec * g.out_h * g.out_w, end = min64(from + kTileRows, last);
    int64_t row = b.rows == 1 ? 0 : from / b.pitch, col = from - row * b.pitch;
    for (int64_t pos = from; pos < end; ++row, col = 0) {
      const int64_t n = min64(b.cols - col, end - pos);
      if (n > 0) {
        const int64_t to = (plane + (b.row + row) * g.out_w + b.col + col) * kVec;
        finish.vectors(sums + (pos - from) * kVec, o.z != nullptr ? o.z + to : nullptr, o.y + to, n);
      }
      pos += b.pitch - col;
    }
  }
};

// Panels [p0, p1) of the positions [first, last) of a band; first is a multiple of 16.
void multiply(const State& s, const Band& b, const char* a, const Operands& o, int64_t first, int64_t last, int64_t p0,
              int64_t p1) {
  const Geometry& g = s.g;
  int32_t offsets[kMaxTaps];
  for (int64_t i = 0; i < g.kernel_h * g.kernel_w; ++i) {
    const int64_t dy = i / g.kernel_w * g.dilation_h, dx = i % g.kernel_w * g.dilation_w;
    const int64_t phase = dy % g.stride_h * s.phases_w + dx % g.stride_w;
    offsets[i] = static_cast<int32_t>(phase * b.phase + (dy / g.stride_h * b.pitch + dx / g.stride_w) * kRowBytes);
  }
  const Store store{s, b, o, Finisher(s.epilogue), first, last};
  SliceJob job;
  job.a = a + first * kRowBytes;
  job.a_step = b.step;
  job.a_slice = b.slice;
  job.a_from = from_in(s, a);
  job.a_from_step = 0;
  job.steps = s.steps;
  job.taps = g.kernel_h * g.kernel_w;
  job.offsets = offsets;
  job.rows = last - first;
  job.b = o.w;
  job.b_depth = depth(s);
  job.b_first = 0;
  job.columns = g.filters;
  job.p0 = p0;
  job.p1 = p1;
  job.bias = o.bias;
  job.finish = Store::run;
  job.self = &store;
  const TileScope tiles;
  run_slices(job);
}

// What run_bands asks for: part i is a band of an image, and a group counts as one.
struct Images {
  const State& s;
  int64_t bands, in_image, out_image;
  const float* x;
  Operands all;

  Band band(int64_t part) const { return band_at(s, bands, part % bands); }
  const float* image(int64_t part) const { return x + part / bands * in_image; }
  static const Images& of(const void* self) { return *static_cast<const Images*>(self); }

  static BandJob::Size size(const void* self, int64_t part) {
    const Band b = of(self).band(part);
    return {units_of(of(self).s, b), b.positions};
  }
  static void scan(const void* self, int64_t part, int64_t from, int64_t to, char* a) {
    const Images& j = of(self);
    const Band b = j.band(part);
    const int64_t rows = b.rows + j.s.extra_h;
    int32_t* const found = largest_in(j.s, a);
    for (; from < to; ++from) found[from] = scan_row(j.s, b, j.image(part), from / rows, from % rows, a);
  }
  static void cut(const void* self, int64_t part, int64_t from, int64_t to, char* a) {
    const Images& j = of(self);
    const Band b = j.band(part);
    const int64_t rows = b.rows + j.s.extra_h;
    int32_t* const found = largest_in(j.s, a);
    int32_t most = 0;
    for (int64_t i = 0; i < units_of(j.s, b); ++i) most = found[i] > most ? found[i] : most;
    const Scale scale = scale_of(most);
    if (from == 0) __builtin_memcpy(found + units_of(j.s, full_band(j.s)), &scale.from, sizeof(scale.from));
    for (; from < to; ++from) slice_row_of(j.s, b, j.image(part), from / rows, from % rows, scale.to, a);
  }
  static void product(const void* self, int64_t part, int64_t r0, int64_t r1, int64_t p0, int64_t p1, const char* a) {
    const Images& j = of(self);
    const int64_t image = part / j.bands, group = image % j.s.g.groups;
    const Operands o{j.all.w + group * group_bytes(j.s), j.all.bias != nullptr ? j.all.bias + group * j.s.g.filters : nullptr,
                     j.all.z != nullptr ? j.all.z + image * j.out_image : nullptr, j.all.y + image * j.out_image};
    multiply(j.s, j.band(part), a, o, r0, r1, p0, p1);
  }
};

Status run(const void* state, RunContext& c) {
  const State& s = *static_cast<const State*>(state);
  const Geometry& g = s.g;
  const auto in = [&](int i) { return c.has(i) ? c.in[i]->as<const float>() : nullptr; };
  const Images images{s, ceil_div(s.units, s.band), round_up(g.channels, kVec) * g.in_h * g.in_w,
                      round_up(g.filters, kVec) * g.out_h * g.out_w, in(0), {c.in[1]->as<const char>(), in(2), in(3), c.out[0]->as<float>()}};
  const BandJob job{g.batch * g.groups * images.bands, 1, ceil_div(g.filters, kVec),
                    &images, Images::size, Images::scan, Images::cut, Images::product};
  run_bands(job, g.flops() < 4 * kAloneFlops ? Pool::serial() : *c.pool, c);
  return Status::kOk;
}

// Microseconds: products of tiles, the slices of the input, and weights that pass. No choice for uneven columns.
PN_COLD float cost(const KernelQuery& q) {
  State s;
  plan(q, &s);
  const Geometry& g = s.g;
  if (q.values != nullptr && q.values[1] != nullptr) {
    for (int64_t n = 0; n < g.groups; ++n) {
      const Filters filters(g, static_cast<const float*>(q.values[1]), n);
      const int64_t numbers = filters.own * filters.taps;
      if (!even_columns(depth(s) * kSliceDepth, numbers, g.filters, Filters::at, &filters)) return 1e30f;
    }
  }
  const int64_t images = g.batch * g.groups, bands = ceil_div(s.units, s.band);
  const Band b = band_at(s, bands, 0);
  const double products = slice_cost(images * bands * ceil_div(b.positions, int64_t{kTileRows}), depth(s), g.filters);
  const double cut = static_cast<double>(images * bands * b.step * s.steps / kRowBytes / kSlices) * 0.016;
  const double passed = static_cast<double>(g.groups * group_bytes(s) * bands);
  const double stream = passed / (group_bytes(s) < q.target->l2_bytes / 2 ? 60e3 : 12e3);
  const double out_bytes = static_cast<double>(q.out[0]->bytes());
  return static_cast<float>((products > stream ? products : stream) + cut + out_bytes * (s.epilogue.direct ? 2e-5 : 1.2e-4));
}

}  // namespace
}  // namespace PN_TIER

PN_KERNEL_TABLE(amx_conv)
PN_KERNEL_ROWS(amx_conv) = {
    {"f32_conv_amx_" PN_BLOCK, "Conv", PN_TIER::kBlocked, PN_TIER::kBlocked, 1, PN_CODE(sizeof(PN_TIER::State), PN_TIER::accepts,
     PN_TIER::cost, PN_TIER::packed_bytes, PN_TIER::pack, nullptr, PN_TIER::thread_scratch_bytes, PN_TIER::prepare,
     PN_TIER::run)},
};
PN_KERNEL_COUNT(amx_conv);
static_assert(sizeof(PN_TIER::State) <= kMaxKernelState, "state of a convolution");

}  // namespace pyneo
