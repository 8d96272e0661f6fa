// SPDX-License-Identifier: Apache-2.0
//
// Einsum: any equation, ellipsis and diagonals included, as one nest of strided loops. The compiler
// turns the equations that are matrix products into MatMul; what is left is small.
#include <cinttypes>

#include "ops/narrow.h"

namespace pyneo {
namespace {

constexpr int kMaxTerms = 8;
constexpr int kMaxAxes = 24;
constexpr int64_t kChunk = 512;  // output elements of a task

// The equation resolved for given shapes: a loop over output axes around a loop over summed axes.
struct Equation {
  int axes = 0, out_axes = 0;  // axes [0, out_axes) are the output's
  int64_t size[kMaxAxes] = {};
  int64_t step[kMaxTerms][kMaxAxes] = {};
  Shape y;
};

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Labels of one term. Letters are themselves; the k-th dim of an ellipsis, counted from its end, is
// -1 - k.
struct Term {
  int n = 0;
  int8_t labels[kMaxRank + 64] = {};
  bool ellipsis = false;
};

// Reads letters and at most one "..." from text[*at], up to ',' or '-' or the end. `hidden` is the
// number of dims its ellipsis stands for, -1: what `rank` leaves.
Status read_term(Str text, int64_t* at, int hidden, int rank, Term* t) {
  int letters = 0;
  for (int64_t i = *at; i < text.size && text.data[i] != ',' && text.data[i] != '-'; ++i)
    letters += is_letter(text.data[i]);
  if (hidden < 0) hidden = rank - letters;
  for (; *at < text.size && text.data[*at] != ',' && text.data[*at] != '-'; ++*at) {
    const char c = text.data[*at];
    if (c == ' ') continue;
    const bool dots =
        text.size - *at >= 3 && c == '.' && text.data[*at + 1] == '.' && text.data[*at + 2] == '.';
    if (is_letter(c) && t->n < 60) {
      t->labels[t->n++] = static_cast<int8_t>(c);
    } else if (dots && !t->ellipsis && hidden >= 0 && hidden <= kMaxRank) {
      for (int k = hidden - 1; k >= 0; --k) t->labels[t->n++] = static_cast<int8_t>(-1 - k);
      t->ellipsis = true;
      *at += 2;
    } else {
      return fail(Status::kInvalidModel, "Einsum: '%.*s' cannot be read at position %" PRId64,
                  static_cast<int>(text.size), text.data, *at);
    }
  }
  return Status::kOk;
}

Status read_equation(const char* op, const Attrs& attrs, int terms, const Shape* shapes,
                     Equation* e) {
  const Str text = attrs.str("equation");
  const int length = static_cast<int>(text.size < 400 ? text.size : 400);
  auto bad = [&](const char* why) {
    return fail(Status::kInvalidModel, "%s: equation '%.*s': %s", op, length,
                text.data ? text.data : "", why);
  };
  if (text.size == 0 || text.size > 400) return bad("it is empty or too long");
  if (terms > kMaxTerms) return bad("at most 8 operands are supported");
  *e = Equation{};
  Term term[kMaxTerms], out;
  int64_t at = 0;
  int hidden = 0;
  int uses[128] = {};
  for (int t = 0; t < terms; ++t) {
    if (t > 0 && (at >= text.size || text.data[at++] != ','))
      return bad("it has fewer terms than the node has inputs");
    PN_TRY(read_term(text, &at, -1, shapes[t].rank, &term[t]));
    if (term[t].n != shapes[t].rank) return bad("a term's length differs from its operand's rank");
    int dots = 0;
    for (int i = 0; i < term[t].n; ++i) {
      if (term[t].labels[i] < 0) {
        ++dots;
      } else {
        ++uses[term[t].labels[i]];
      }
    }
    if (dots > hidden) hidden = dots;
  }
  if (at < text.size && text.data[at] == ',')
    return bad("it has more terms than the node has inputs");
  if (at < text.size) {
    if (text.size - at < 2 || text.data[at + 1] != '>')
      return bad("'->' is expected before the output");
    at += 2;
    PN_TRY(read_term(text, &at, hidden, 0, &out));
    if (at < text.size) return bad("the output is one term");
  } else {
    for (int k = hidden - 1; k >= 0; --k) out.labels[out.n++] = static_cast<int8_t>(-1 - k);
    for (int c = 0; c < 128; ++c) {
      if (uses[c] == 1) out.labels[out.n++] = static_cast<int8_t>(c);
    }
  }
  if (out.n > kMaxRank) return bad("the output has more than 8 dims");

  int8_t label[kMaxAxes];
  auto axis_of = [&](int8_t l) {
    int a = 0;
    while (a < e->axes && label[a] != l) ++a;
    return a;
  };
  for (int i = 0; i < out.n; ++i) {
    if (axis_of(out.labels[i]) < e->axes) return bad("the output names an axis twice");
    if (out.labels[i] > 0 && uses[out.labels[i]] == 0)
      return bad("the output names an axis that no operand has");
    label[e->axes++] = out.labels[i];
  }
  e->out_axes = out.n;
  for (int a = 0; a < kMaxAxes; ++a) e->size[a] = 1;
  for (int t = 0; t < terms; ++t) {
    int64_t step = 1;
    for (int i = term[t].n - 1; i >= 0; --i) {
      const int a = axis_of(term[t].labels[i]);
      if (a == kMaxAxes) return bad("more than 24 axes");
      if (a == e->axes) label[e->axes++] = term[t].labels[i];
      const int64_t d = shapes[t][i];
      if (d != 1) {
        if (e->size[a] != 1 && e->size[a] != d)
          return bad("operands disagree about the size of an axis");
        e->size[a] = d;
        e->step[t][a] += step;
      }
      step *= d;
    }
  }
  e->y.rank = out.n;
  for (int i = 0; i < out.n; ++i) e->y[i] = e->size[i];
  return Status::kOk;
}

Status infer_einsum(InferContext& c) {
  Shape shapes[kMaxTerms];
  if (c.n_in < 1 || c.n_in > kMaxTerms) {
    return fail(Status::kUnsupported, "Einsum: %d operands, 1 to %d are supported", c.n_in,
                kMaxTerms);
  }
  if (c.has(0) && (c.dtype(0) == DType::kBool || c.dtype(0) == DType::kNone)) {
    return fail(Status::kUnsupported, "Einsum: operands of dtype %s, a number is expected",
                dtype_name(c.dtype(0)));
  }
  for (int i = 0; i < c.n_in; ++i) {
    PN_TRY(expect_dtype(c, i, {c.has(0) ? c.dtype(0) : DType::kF32}));
    shapes[i] = c.shape(i);
  }
  Equation e;
  PN_TRY(read_equation(c.op, c.attrs, c.n_in, shapes, &e));
  c.set(0, c.dtype(0), e.y);
  return Status::kOk;
}

// Sums in Acc: unsigned for integers, which wrap around.
template <typename T, typename Acc>
void sum_products(const RunContext& c, const Equation& e, int terms, const T* const* in, T* y) {
  const int64_t total = e.y.elements();
  const int last = e.axes - 1;
  const bool sums = e.axes > e.out_axes;
  bool empty = false;
  for (int a = e.out_axes; a < e.axes; ++a) empty |= e.size[a] == 0;
  c.pool->run(ceil_div(total, kChunk), [&](int64_t task, int) {
    for (int64_t o = task * kChunk; o < total && o < (task + 1) * kChunk; ++o) {
      const T* at[kMaxTerms];
      for (int t = 0; t < terms; ++t) {
        int64_t rest = o, offset = 0;
        for (int a = e.out_axes - 1; a >= 0; --a) {
          offset += rest % e.size[a] * e.step[t][a];
          rest /= e.size[a];
        }
        at[t] = in[t] + offset;
      }
      Acc sum = 0;
      int64_t index[kMaxAxes] = {};
      while (!empty) {
        const int64_t count = sums ? e.size[last] : 1;
        for (int64_t k = 0; k < count; ++k) {
          Acc product = 1;
          for (int t = 0; t < terms; ++t)
            product *= static_cast<Acc>(at[t][sums ? k * e.step[t][last] : 0]);
          sum += product;
        }
        int a = last - 1;
        for (; a >= e.out_axes; --a) {
          const bool more = ++index[a] < e.size[a];
          for (int t = 0; t < terms; ++t) at[t] += (more ? 1 : 1 - e.size[a]) * e.step[t][a];
          if (more) break;
          index[a] = 0;
        }
        if (a < e.out_axes) break;
      }
      y[o] = static_cast<T>(sum);
    }
  });
}

template <typename T, typename Acc>
Status run_plain(RunContext& c, const Equation& e) {
  const T* in[kMaxTerms];
  for (int i = 0; i < c.n_in; ++i) in[i] = c.in[i]->as<const T>();
  sum_products<T, Acc>(c, e, c.n_in, in, c.out[0]->as<T>());
  return Status::kOk;
}

Status run_einsum(RunContext& c) {
  Shape shapes[kMaxTerms];
  for (int i = 0; i < c.n_in; ++i) shapes[i] = c.in[i]->shape();
  Equation e;
  PN_TRY(read_equation(c.op, c.attrs, c.n_in, shapes, &e));
  switch (c.in[0]->desc.dtype) {
    case DType::kF64:
      return run_plain<double, double>(c, e);
    case DType::kU8:
    case DType::kI8:
      return run_plain<uint8_t, uint32_t>(c, e);
    case DType::kU16:
    case DType::kI16:
      return run_plain<uint16_t, uint32_t>(c, e);
    case DType::kU32:
    case DType::kI32:
      return run_plain<uint32_t, uint32_t>(c, e);
    case DType::kU64:
    case DType::kI64:
      return run_plain<uint64_t, uint64_t>(c, e);
    default:
      break;
  }
  Scratch scratch(c);
  F32Operands f(c, &scratch);
  const float* in[kMaxTerms];
  for (int i = 0; i < c.n_in; ++i) in[i] = f.in(i);
  sum_products<float, float>(c, e, c.n_in, in, f.out(0));
  f.flush();
  return Status::kOk;
}

int64_t scratch_einsum(const InferContext& c) {
  ScratchSize size;
  add_f32_operands(c, &size);
  return size.bytes();
}

}  // namespace

extern const OpDef pn_ops_einsum[] = {
    {"Einsum", 1, -1, 1, 1, 0, infer_einsum, run_einsum, scratch_einsum},
};
extern const int pn_ops_einsum_count = sizeof(pn_ops_einsum) / sizeof(OpDef);

}  // namespace pyneo
