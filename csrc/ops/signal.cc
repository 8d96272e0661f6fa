// SPDX-License-Identifier: Apache-2.0
//
// DFT, STFT and MelWeightMatrix. Window functions are the standard's own function bodies.
#include <cinttypes>
#include <cmath>

#include "ops/elementwise.h"
#include "ops/fft.h"
#include "ops/narrow.h"
#include "ops/values.h"

namespace pyneo {
namespace {

// Scratch is planned without knowing the number of threads: lines are dealt to this many workers.
constexpr int64_t kWorkers = 8;

int64_t fft_scratch(int64_t n, int64_t lines) {
  ScratchSize size;
  size.add(Fft::table_size(n), sizeof(Complex));
  size.add(Fft::buffer_size(n) * (lines < kWorkers ? lines : kWorkers), sizeof(Complex));
  return size.bytes();
}

// body(fft, buffer, line) for every line, in parallel.
template <typename F>
void for_lines(const RunContext& c, int64_t n, int64_t lines, F&& body) {
  if (lines == 0 || n == 0) return;
  Scratch scratch(c);
  const Fft fft(n, scratch.take<Complex>(Fft::table_size(n)));
  const int64_t workers = lines < kWorkers ? lines : kWorkers, each = Fft::buffer_size(n);
  Complex* buffers = scratch.take<Complex>(each * workers);
  c.pool->run(workers, [&](int64_t worker, int) {
    for (int64_t line = worker; line < lines; line += workers)
      body(fft, buffers + worker * each, line);
  });
}

double real_at(const Tensor& t, int64_t i) { return load_double(t.desc.dtype, t.data, i); }

Complex complex_at(const Tensor& t, int64_t i, bool has_im) {
  return has_im ? Complex{real_at(t, 2 * i), real_at(t, 2 * i + 1)} : Complex{real_at(t, i), 0};
}

void store(const Tensor& t, int64_t i, double v) {
  const DType type = t.desc.dtype;
  store_block(Cls::kF64, &v, 1, type, t.as<uint8_t>() + static_cast<size_t>(i) * dtype_size(type));
}

Status check_length(const char* op, const char* what, int64_t n) {
  if (n >= 1 && n <= kMaxFft) return Status::kOk;
  return fail(Status::kInvalidModel, "%s: %s is %" PRId64 ", expected 1 to %" PRId64, op, what, n,
              kMaxFft);
}

// --- DFT -------------------------------------------------------------------------------------

struct Dft {
  static Status read(const InferContext& c, Dft* d);
  int64_t lines() const { return outer * inner; }
  void transform(const RunContext& c, const Fft& fft, Complex* buffer, int64_t line) const;

  int64_t outer = 1, length = 0, inner = 1;  // of the input, complex pairs counted as one
  int64_t n = 0, kept = 0;                   // transformed and written along the axis
  bool inverse = false, onesided = false, complex_in = false;
  Shape y;
};

Status Dft::read(const InferContext& c, Dft* d) {
  const Shape& x = c.shape(0);
  char text[160];
  if (x.rank < 2 || (x[x.rank - 1] != 1 && x[x.rank - 1] != 2)) {
    return fail(Status::kInvalidModel,
                "DFT: the input has shape %s, expected a last dim of 1 (real) or 2 (complex)",
                format_shape(x, text, sizeof(text)));
  }
  int64_t axis = 0;
  PN_TRY(read_int_scalar(c, 2, -2, &axis));
  int at = 0;
  PN_TRY(normalize_axis(c.op, axis, x.rank, &at));
  if (at == x.rank - 1)
    return fail(Status::kInvalidModel, "DFT: axis %" PRId64 " is the one of complex parts", axis);
  d->inverse = c.attrs.i64("inverse", 0) != 0;
  d->onesided = c.attrs.i64("onesided", 0) != 0;
  d->complex_in = x[x.rank - 1] == 2;
  if (d->onesided && d->complex_in != d->inverse) {
    return fail(Status::kInvalidModel, "DFT: onesided takes a %s input when inverse is %d",
                d->inverse ? "complex" : "real", d->inverse);
  }
  d->length = x[at];
  PN_TRY(read_int_scalar(c, 1, d->onesided && d->inverse ? 2 * (d->length - 1) : d->length, &d->n));
  PN_TRY(check_length(c.op, "the transform's length", d->n));
  d->outer = x.product(0, at);
  d->inner = x.product(at + 1, x.rank - 1);
  d->kept = d->onesided && !d->inverse ? d->n / 2 + 1 : d->n;
  d->y = x;
  d->y[at] = d->kept;
  d->y[x.rank - 1] = d->onesided && d->inverse ? 1 : 2;
  return Status::kOk;
}

void Dft::transform(const RunContext& c, const Fft& fft, Complex* buffer, int64_t line) const {
  const Tensor &in = *c.in[0], &out = *c.out[0];
  const int64_t o = line / inner, k = line % inner;
  for (int64_t i = 0; i < n; ++i) {
    buffer[i] = i < length ? complex_at(in, (o * length + i) * inner + k, complex_in) : Complex{0, 0};
  }
  if (onesided && inverse) {  // the half that is not given is the conjugate, mirrored
    buffer[0].im = 0;
    if (n % 2 == 0) buffer[n / 2].im = 0;
    for (int64_t i = n / 2 + 1; i < n; ++i) buffer[i] = Complex{buffer[n - i].re, -buffer[n - i].im};
  }
  fft.run(buffer, inverse);
  for (int64_t i = 0; i < kept; ++i) {
    const int64_t at = (o * kept + i) * inner + k;
    if (onesided && inverse) {
      store(out, at, buffer[i].re);
    } else {
      store(out, 2 * at, buffer[i].re);
      store(out, 2 * at + 1, buffer[i].im);
    }
  }
}

// --- STFT ------------------------------------------------------------------------------------

struct Stft {
  static Status read(const InferContext& c, Stft* s);
  int64_t lines() const { return batch * frames; }
  void transform(const RunContext& c, const Fft& fft, Complex* buffer, int64_t line) const;

  int64_t batch = 0, length = 0, step = 1, n = 0, frames = 0, bins = 0;
  bool complex_in = false;
  Shape y;
};

Status Stft::read(const InferContext& c, Stft* s) {
  if (c.has(2)) PN_TRY(expect_dtype(c, 2, {c.dtype(0)}));
  const Shape& x = c.shape(0);
  char text[160];
  // (batch, length) is a real signal too: torch exports it, onnxruntime takes it.
  if (x.rank != 2 && (x.rank != 3 || (x[2] != 1 && x[2] != 2))) {
    return fail(Status::kInvalidModel,
                "STFT: the signal has shape %s, expected (batch, length) or (batch, length, 1 or 2)",
                format_shape(x, text, sizeof(text)));
  }
  s->batch = x[0];
  s->length = x[1];
  s->complex_in = x.rank == 3 && x[2] == 2;
  if (c.has(2) && c.shape(2).rank != 1) {
    return fail(Status::kInvalidModel, "STFT: the window has rank %d, expected 1", c.shape(2).rank);
  }
  PN_TRY(read_int_scalar(c, 1, 1, &s->step));
  PN_TRY(read_int_scalar(c, 3, c.has(2) ? c.shape(2)[0] : s->length, &s->n));
  PN_TRY(check_length(c.op, "frame_length", s->n));
  const bool onesided = c.attrs.i64("onesided", 1) != 0;
  if (s->step < 1 || s->n > s->length || (c.has(2) && c.shape(2)[0] != s->n)) {
    return fail(Status::kInvalidModel,
                "STFT: frame_step %" PRId64 " (1 or more), frame_length %" PRId64
                " and a window of %" PRId64 " do not fit a signal of %" PRId64,
                s->step, s->n, c.has(2) ? c.shape(2)[0] : s->n, s->length);
  }
  if (onesided && s->complex_in) {
    return fail(Status::kInvalidModel,
                "STFT: a complex signal has no onesided transform; set onesided to 0");
  }
  s->frames = (s->length - s->n) / s->step + 1;
  s->bins = onesided ? s->n / 2 + 1 : s->n;
  for (int64_t d : {s->batch, s->frames, s->bins, int64_t{2}}) s->y[s->y.rank++] = d;
  return Status::kOk;
}

void Stft::transform(const RunContext& c, const Fft& fft, Complex* buffer, int64_t line) const {
  const int64_t from = line / frames * length + line % frames * step;
  for (int64_t i = 0; i < n; ++i) {
    buffer[i] = complex_at(*c.in[0], from + i, complex_in);
    if (!c.has(2)) continue;
    const double w = real_at(*c.in[2], i);
    buffer[i] = Complex{buffer[i].re * w, buffer[i].im * w};
  }
  fft.run(buffer, false);
  for (int64_t i = 0; i < bins; ++i) {
    store(*c.out[0], (line * bins + i) * 2, buffer[i].re);
    store(*c.out[0], (line * bins + i) * 2 + 1, buffer[i].im);
  }
}

// --- Both ------------------------------------------------------------------------------------

template <typename T>
Status infer(InferContext& c) {
  PN_TRY(expect_types(c, 0, kFloatTypes));
  T t;
  PN_TRY(T::read(c, &t));
  c.set(0, c.dtype(0), t.y);
  return Status::kOk;
}

template <typename T>
int64_t scratch(const InferContext& c) {
  T t;
  return T::read(c, &t) == Status::kOk ? fft_scratch(t.n, t.lines()) : 0;
}

template <typename T>
Status run(RunContext& c) {
  const AsInfer as_infer(c);
  T t;
  PN_TRY(T::read(as_infer.context(), &t));
  PN_TRY(expect_shape(c, 0, t.y));
  for_lines(c, t.n, t.lines(), [&](const Fft& fft, Complex* buffer, int64_t line) { t.transform(c, fft, buffer, line); });
  return Status::kOk;
}

// --- MelWeightMatrix -------------------------------------------------------------------------

Status infer_mel(InferContext& c) {
  int64_t bands = 0, length = 0;
  PN_TRY(read_int_scalar(c, 0, 0, &bands));
  PN_TRY(read_int_scalar(c, 1, 0, &length));
  PN_TRY(expect_types(c, 2, dtype_bit(DType::kI32) | dtype_bit(DType::kI64)));
  for (int i : {3, 4}) PN_TRY(expect_types(c, i, kFloatTypes));
  for (int i : {2, 3, 4}) {
    if (c.in[i]->elements() != 1)
      return fail(Status::kInvalidModel, "MelWeightMatrix: input %d is not one number", i);
  }
  if (bands < 0 || bands > kMaxFft || length < 0 || length > kMaxFft) {
    return fail(Status::kInvalidModel,
                "MelWeightMatrix: %" PRId64 " bands of a transform of %" PRId64
                ", expected 0 to %" PRId64,
                bands, length, kMaxFft);
  }
  const int64_t type = c.attrs.i64("output_datatype", 1);
  const DType y = type > 0 && type < 32 ? static_cast<DType>(type) : DType::kNone;
  if (dtype_size(y) == 0 || y == DType::kBool) {
    return fail(Status::kUnsupported,
                "MelWeightMatrix: output_datatype %" PRId64 " is not a number's", type);
  }
  Shape shape;
  shape.rank = 2;
  shape[0] = length / 2 + 1;
  shape[1] = bands;
  c.set(0, y, shape);
  return Status::kOk;
}

Status run_mel(RunContext& c) {
  const Tensor& y = *c.out[0];
  const int64_t bins = y.dim(0), bands = y.dim(1), length = int_at(*c.in[1], 0);
  const double rate = static_cast<double>(int_at(*c.in[2], 0));
  const double low = 2595 * log10(1 + real_at(*c.in[3], 0) / 700),
               high = 2595 * log10(1 + real_at(*c.in[4], 0) / 700);
  if (!(rate > 0) || !(low <= high) || !(high < 1e6) || low < 0) {
    return fail(
        Status::kInvalidModel,
        "MelWeightMatrix: sample rate %g, edges %g and %g Hz: 0 <= lower <= upper is expected",
        rate, real_at(*c.in[3], 0), real_at(*c.in[4], 0));
  }
  const double step = (high - low) / static_cast<double>(bands + 2);
  // Bin of the k-th corner of the triangles.
  auto corner = [&](int64_t k) {
    const double hertz = 700 * (pow(10, (low + static_cast<double>(k) * step) / 2595) - 1);
    const double bin = floor(static_cast<double>(length + 1) * hertz / rate);
    return static_cast<int64_t>(
        bin < static_cast<double>(2 * kMaxFft) ? bin : static_cast<double>(2 * kMaxFft));
  };
  c.pool->run(bands, [&](int64_t band, int) {
    const int64_t left = corner(band), top = corner(band + 1), right = corner(band + 2);
    for (int64_t i = 0; i < bins; ++i) {
      double v = 0;
      if (i == top) {
        v = 1;
      } else if (i >= left && i < top) {
        v = static_cast<double>(i - left) / static_cast<double>(top - left);
      } else if (i > top && i < right) {
        v = static_cast<double>(right - i) / static_cast<double>(right - top);
      }
      store(y, i * bands + band, v);
    }
  });
  return Status::kOk;
}

}  // namespace

extern const OpDef pn_ops_signal[] = {
    {"DFT", 1, 3, 1, 1, 0, infer<Dft>, run<Dft>, scratch<Dft>},
    {"STFT", 2, 4, 1, 1, 0, infer<Stft>, run<Stft>, scratch<Stft>},
    {"MelWeightMatrix", 5, 5, 1, 1, 0, infer_mel, run_mel, nullptr},
};
extern const int pn_ops_signal_count = sizeof(pn_ops_signal) / sizeof(OpDef);

}  // namespace pyneo
