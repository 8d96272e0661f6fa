// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv/direct.h"

#include "kernels/gemm/partition.h"

namespace pyneo {
namespace PN_TIER {
namespace {

// Filters whose weights lie together, [index of the reduction][filter]: panels of `vecs` vectors, then narrower ones.
struct Panel {
  int64_t first;  // filter
  int vecs;
};
int64_t panel_count(const Geometry& g, int vecs) {
  const int64_t all = ceil_div(g.filters, kVec);
  return all / vecs + ceil_div(all % vecs, kTileVecs);
}
Panel panel_at(const Geometry& g, int vecs, int64_t i) {
  const int64_t all = ceil_div(g.filters, kVec), whole = all / vecs;
  if (i < whole) return {i * vecs * kVec, vecs};
  const int64_t first = whole * vecs + (i - whole) * kTileVecs;
  return {first * kVec, all - first < kTileVecs ? 1 : kTileVecs};
}

// A range of output rows and columns.
struct Band {
  int64_t row, rows, col, cols;
};

Band band_at(const Direct& s, int64_t bands, int64_t i) {
  const Geometry& g = s.g;
  const int64_t from = tile_begin(s.units, bands, i), to = tile_begin(s.units, bands, i + 1);
  if (g.out_h == 1) {
    const int64_t c0 = tile_begin(g.out_w, s.units, from), c1 = tile_begin(g.out_w, s.units, to);
    return {0, 1, c0, c1 - c0};
  }
  const int64_t r0 = from * s.tiles.rows, r1 = to * s.tiles.rows;
  return {r0, (r1 < g.out_h ? r1 : g.out_h) - r0, 0, g.out_w};
}

int64_t input_rows(const Geometry& g, int64_t rows) { return (rows - 1) * g.stride_h + (g.kernel_h - 1) * g.dilation_h + 1; }
int64_t input_cols(const Geometry& g, int64_t cols) { return (cols - 1) * g.stride_w + (g.kernel_w - 1) * g.dilation_w + 1; }

// Floats from one channel block of a padded copy to the next: never a multiple of a page, which would
// put all blocks of a pixel into one set of L1.
int64_t copy_plane(const Geometry& g, int64_t rows, int64_t cols) {
  const int64_t n = rows * cols * g.block();
  return n % 512 == 0 ? n + 16 : n;
}

// Copies the input rows and columns from (top, left) on, zero outside the image.
void copy_padded(const Direct& s, const DirectOperands& o, int64_t top, int64_t left, int64_t rows, int64_t cols, int64_t plane,
                 float* to) {
  const Geometry& g = s.g;
  const int64_t e = g.block();
  const int64_t lo = left < 0 ? (-left < cols ? -left : cols) : 0;
  int64_t hi = g.in_w - left < cols ? g.in_w - left : cols;
  if (hi < lo) hi = lo;
  const int64_t own = g.blocks() / g.taps;
  for (int64_t b = 0; b < own * (o.end_tap - o.first_tap); ++b, to += plane) {
    const float* x = o.x + (b % own * s.in_plane + b / own * s.tap_plane) * e;
    float* row = to;
    // Whole vectors, without calls: rows may be short. What goes beyond a row is written again, or is in the slack behind.
    const auto clear = [&](int64_t i, int64_t end) __attribute__((always_inline)) {
      for (; i < end; i += kVec) store(row + i, VF{});
    };
    const int64_t from = lo * e, until = hi * e, whole = from + (until - from) / kVec * kVec;
    const int rest = static_cast<int>(until - whole);
    for (int64_t r = top; r < top + rows; ++r, row += cols * e) {
      if (r < 0 || r >= g.in_h) {
        clear(0, cols * e);
        continue;
      }
      const float* src = x + (r * g.in_w + left) * e;
      clear(0, from);
      for (int64_t i = from; i < whole; i += kVec) store(row + i, load(src + i));
      if (rest > 0) store_n(row + whole, load_n(src + whole, rest), rest);
      clear(until, cols * e);
    }
  }
}

// One panel over one band; x points at the band's input. Of the weights behind the panel's the first `fetch` floats
// arrive in L2 meanwhile, all of them with the first tiles.
void run_panel(const Direct& s, const DirectOperands& o, const Band& band, const Walk& walk, const float* x, const Panel& panel,
               int64_t fetch) {
  const Geometry& g = s.g;
  const int vecs = panel.vecs;
  const int64_t filter = panel.first, plane = s.out_plane, width = vecs * kVec;
  const int64_t skipped = o.first_tap * (g.depth() / g.taps) * width;
  const float *w = o.w + filter * g.depth() + skipped, *next = w - skipped + width * g.depth(), *const end = next + fetch;
  const int64_t lane = g.blocked_out ? 1 : plane, pixel = g.blocked_out ? kVec : 1;
  const int64_t filters = g.filters - filter < width ? g.filters - filter : width;
  alignas(64) float bias[kWidePanel];
  for (int64_t i = 0; i < width; i += kVec) {
    const int live = filters - i < kVec ? static_cast<int>(filters - i) : kVec;
    store(bias + i, o.bias != nullptr && live > 0 ? load_n(o.bias + filter + i, live) : VF{});
  }
  Finish f;
  s.epilogue.clamps(&f);
  f.bias = bias;
  f.out_vec = plane * kVec;
  f.out_pixel = s.out_step * pixel;
  f.out_row = s.out_row * pixel;
  const Scatter scatter{lane, f.out_vec, f.out_pixel, f.out_row, static_cast<int>(g.blocked_out ? width : filters)};
  const bool direct = g.blocked_out && s.epilogue.in_registers(o.z != nullptr);
  const Tiling tiles = g.out_h > 1 ? tiling(band.cols, vecs) : row_tiling(band.cols, vecs);
  const int64_t small = band.cols / tiles.across, larger = band.cols % tiles.across;  // as tile_begin has them
  for (int64_t r = 0; r < band.rows;) {
    const int rows = r + tiles.rows <= band.rows ? tiles.rows : 1;
    for (int64_t t = 0, c0 = 0, cols; t < tiles.across; ++t, c0 += cols) {
      cols = small + (t < larger);
      const float* xt = x + r * walk.row + c0 * walk.pixel;
      const int64_t at = filter * plane + (s.out_first + (band.row + r) * s.out_row + (band.col + c0) * s.out_step) * pixel;
      const float* z = o.z != nullptr ? o.z + at : nullptr;
      const TileFn fn = tile_fn(rows, static_cast<int>(cols), vecs);
      f.ahead = next < end ? next : w;
      next += g.depth() * 8;
      if (direct) {
        fn(walk, xt, w, f, o.y + at, z);
      } else {
        run_buffered(fn, rows, static_cast<int>(cols), vecs, walk, xt, w, bias, f.ahead, s.epilogue, scatter, o.y + at, z);
      }
    }
    r += rows;
  }
}

// Panels [p0, p1) of one band of one group of one image; the operands point at that group's.
void run_band(const Direct& s, const DirectOperands& o, const Band& band, int64_t p0, int64_t p1, float* scratch) {
  const Geometry& g = s.g;
  Walk walk = s.walk;
  const int64_t e = g.block(), top = band.row * g.stride_h - g.pad_h, left = band.col * g.stride_w - g.pad_w;
  const float* x = o.x;
  int64_t pitch = g.in_w * e;
  walk.a_step = s.in_plane * e;
  walk.a_count = walk.a_count / g.taps * (o.end_tap - o.first_tap);
  if (g.copied()) {
    const int64_t rows = input_rows(g, band.rows), cols = input_cols(g, band.cols);
    pitch = cols * e;
    walk.a_step = copy_plane(g, rows, cols);
    copy_padded(s, o, top, left, rows, cols, walk.a_step, scratch);
    x = scratch;
  } else {
    x += top * pitch + left * e;
  }
  walk.b_step = g.dilation_h * pitch;
  if (walk.c_count == 1) {  // of two loops the inner one costs less
    walk.c_count = walk.b_count;
    walk.c_step = walk.b_step;
    walk.b_count = 1;
  }
  if (kVec == 8 && walk.c_count == 1 && walk.last == walk.lanes) {  // eight lanes are little work for three loops
    walk.c_count = walk.a_count;
    walk.c_step = walk.a_step;
    walk.a_count = 1;
  }
  walk.row = g.stride_h * pitch;
  for (int64_t p = p0; p < p1; ++p) {
    const int64_t fetch = p + 1 < p1 ? panel_at(g, s.vecs, p + 1).vecs * kVec * g.depth() : 0;
    run_panel(s, o, band, walk, x, panel_at(g, s.vecs, p), fetch);
  }
}

}  // namespace

PN_COLD void plan_direct(int64_t l2_bytes, int vecs, Direct* s) {
  const Geometry& g = s->g;
  Walk& k = s->walk;
  if (g.blocked_in) {
    k = Walk{g.blocks(), 0, g.kernel_h, 0, g.kernel_w, g.dilation_w * kVec,
             kVec, g.channels - (g.blocks() - 1) * kVec, g.stride_w * kVec, 0};
  } else if (g.dilation_w == 1) {
    k = Walk{g.channels, 0, g.kernel_h, 0, 1, 0, g.kernel_w, g.kernel_w, g.stride_w, 0};
  } else {
    k = Walk{g.channels, 0, g.kernel_h, 0, g.kernel_w, g.dilation_w, 1, 1, g.stride_w, 0};
  }
  s->vecs = vecs;
  s->tiles = g.out_h > 1 ? tiling(g.out_w, s->vecs) : row_tiling(g.out_w, s->vecs);
  const int64_t rows = s->tiles.rows, cols = ceil_div(g.out_w, s->tiles.across);  // of a tile
  // A band's input takes a quarter of L2 where the weights stay there as well, and half where they
  // stream through and should do so seldom.
  const int64_t weights = g.group_floats() * 4;
  const int64_t budget = weights < l2_bytes / 2 ? l2_bytes / 4 : l2_bytes / 2;
  const int64_t row_bytes = g.blocks() * g.block() * 4;  // of one input column
  if (g.out_h > 1) {
    s->units = ceil_div(g.out_h, rows);
    const int64_t width = (g.in_w + g.pad_w + g.end_w) * row_bytes;
    s->band = (budget / width - (g.kernel_h - 1) * g.dilation_h) / (g.stride_h * rows);
  } else {
    s->units = s->tiles.across;
    s->band = (budget / (row_bytes * g.kernel_h) - (g.kernel_w - 1) * g.dilation_w) / (g.stride_w * cols);
  }
  // Rows that two bands share are copied for both: not more of them than of a band's own.
  const int64_t halo = g.out_h > 1 ? ceil_div((g.kernel_h - 1) * g.dilation_h, g.stride_h * rows)
                                   : ceil_div((g.kernel_w - 1) * g.dilation_w, g.stride_w * cols);
  if (s->band < halo) s->band = halo;
  if (s->band < 1) s->band = 1;
  if (s->band > s->units) s->band = s->units;
  s->band = ceil_div(s->units, ceil_div(s->units, s->band));
}

int64_t direct_scratch_bytes(const Direct& s) {
  const Geometry& g = s.g;
  if (!g.copied()) return 0;
  // A band is never larger than `band` units, however many threads divide them.
  const int64_t rows = g.out_h == 1 ? 1 : s.band * s.tiles.rows;
  const int64_t cols = g.out_h == 1 ? s.band * ceil_div(g.out_w, s.tiles.across) : g.out_w;
  return g.blocks() * copy_plane(g, input_rows(g, rows), input_cols(g, cols)) * 4 + 64;
}

PN_COLD void pack_direct(const Geometry& g, int vecs, const float* w, const FilterSteps& steps, float* to) {
  const int64_t own = g.channels / g.merged, own_filters = g.filters / g.merged;  // of the model's group
  for (int64_t n = 0; n < g.groups; ++n, w += steps.group) {
    for (int64_t p = 0; p < panel_count(g, vecs); ++p) {
      const Panel panel = panel_at(g, vecs, p);
      const int64_t f0 = panel.first, width = panel.vecs * kVec, live = g.filters - f0 < width ? g.filters - f0 : width;
      for (int64_t c0 = 0; c0 < g.channels; c0 += g.block()) {
        const int64_t c1 = c0 + g.block() < g.channels ? c0 + g.block() : g.channels, in_tap = g.channels / g.taps;
        for (int64_t i = 0; i < g.kernel_h * g.kernel_w; ++i) {
          const float* tap = w + c0 / in_tap * steps.tap + i / g.kernel_w * steps.row + i % g.kernel_w * steps.col;
          for (int64_t c = c0; c < c1; ++c, to += width) {
            for (int64_t f = 0; f < live; ++f) {
              if ((f0 + f) / own_filters == c / own) to[f] = tap[(f0 + f) * steps.filter + c % own % in_tap * steps.channel];
            }
          }
        }
      }
    }
  }
}

constexpr int64_t kTasksPerThread = 8, kTaskUnits = 4, kTaskPixels = 56, kTaskFilters = 256;

void run_direct(const Direct& s, const DirectOperands& all, RunContext& c) {
  const Geometry& g = s.g;
  const int64_t images = g.batch * g.groups;
  const Pool serial = Pool::serial();
  const Pool& pool = g.flops() < kAloneFlops ? serial : *c.pool;
  const int64_t threads = pool.size(), panels = panel_count(g, s.vecs);
  // Bands for the caches; more of them, or ranges of panels, for the threads: several each, as cores are
  // never equally fast. A padded band is copied for every range, so its ranges are few.
  int64_t bands = ceil_div(s.units, s.band), splits = 1;
  const int64_t wanted = ceil_div(kTasksPerThread * threads, images);
  const int64_t most = g.out_h > 1 ? ceil_div(s.units, kTaskUnits) : ceil_div(g.out_w, kTaskPixels);
  if (threads > 1 && bands < wanted) {
    if (bands < most) bands = wanted < most ? wanted : most;
    splits = ceil_div(g.copied() ? ceil_div(threads, images) : wanted, bands);
    // The first panel of a range has not been fetched ahead: ranges of several, while there are enough for all.
    const int64_t ranges = g.filters / kTaskFilters > threads ? g.filters / kTaskFilters : threads;
    if (splits > ranges) splits = ranges;
    if (splits > panels) splits = panels;
  }
  const int64_t in_group = g.blocks() / g.taps * g.block() * s.in_plane;
  const int64_t out_group = (g.blocked_out ? round_up(g.filters, kVec) : g.filters) * s.out_plane;
  pool.run(images * bands * splits, [&](int64_t task, int thread) {
    const int64_t split = task % splits, band = task / splits % bands, image = task / splits / bands;
    const int64_t group = image % g.groups;
    const DirectOperands o{all.x + image * in_group, all.w + group * g.group_floats(),
                     all.bias != nullptr ? all.bias + group * g.filters : nullptr,
                     all.z != nullptr ? all.z + image * out_group : nullptr, all.y + image * out_group,
                     all.first_tap, all.end_tap};
    run_band(s, o, band_at(s, bands, band), tile_begin(panels, splits, split), tile_begin(panels, splits, split + 1),
             reinterpret_cast<float*>(c.thread_scratch + thread * c.thread_stride));
  });
}

constexpr int64_t kWideDepth = 1280, kWidePlane = 98;

PN_COLD double direct_cost(const Direct& s) {
  const Geometry& g = s.g;
  const double useful = static_cast<double>(g.filters) / static_cast<double>(round_up(g.filters, kVec));
  double efficiency = tile_rate(g.out_w, s.tiles, s.vecs) * useful;
  // Runs of adjacent lanes begin anew: a block of channels, or one channel's kernel row. Planes lie pages apart.
  const double run = g.blocked_in           ? static_cast<double>(g.channels) / static_cast<double>(g.blocks())
                     : g.dilation_w == 1 ? static_cast<double>(g.kernel_w)
                                         : 1;
  efficiency *= run / (run + (!g.blocked_in && g.channels > 64 ? 1.8 : 0.9));
  double us = g.flops() / (kPeakFlops * efficiency);
  if (s.vecs > kTileVecs) {
    // More of the first panel, which nothing has fetched ahead.
    us += static_cast<double>(g.depth() * (kWidePanel - kPanel)) * 4 * 6e-5;
    // A panel and the next must fit in L2, and pay for being read from there with pixels; what runs over stored
    // tiles likes long rows.
    if (g.depth() > kWideDepth || g.out_h * g.out_w < kWidePlane || !s.epilogue.direct) us *= 1.2;
  }
  const double images = static_cast<double>(g.batch * g.groups);
  const double in_bytes = images * static_cast<double>(g.channels * g.in_h * g.in_w * 4);
  const double out_bytes = images * static_cast<double>(g.filters * g.out_h * g.out_w * 4);
  us += (in_bytes * (g.copied() ? 2 : 1) + out_bytes) * 2.5e-5;
  us += static_cast<double>(g.groups * g.group_floats()) * 4 * static_cast<double>(ceil_div(s.units, s.band)) * 1e-5;
  if (!g.blocked_out) us += out_bytes * 8e-4;
  if (!s.epilogue.direct) us += out_bytes * 1e-4;
  return us;
}

}  // namespace PN_TIER
}  // namespace pyneo
