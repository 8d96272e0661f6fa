// SPDX-License-Identifier: Apache-2.0
//
// NonMaxSuppression: per image and class, the best-scored boxes that no better one overlaps.
#include <cinttypes>

#include "ops/narrow.h"
#include "ops/order.h"
#include "ops/values.h"
#include "ops/workspace.h"

namespace pyneo {
namespace {

struct Detection {
  const float* boxes = nullptr;   // [batches, n, 4]
  const float* scores = nullptr;  // [batches, classes, n]
  int64_t batches, classes, n;
  int64_t most = 0;  // boxes kept of a class
  float overlap = 0;
  bool thresholded = false;
  float threshold = 0;
  bool centered;
};

Status read_float(const InferContext& c, int i, float* out) {
  if (!c.has(i)) return Status::kOk;
  PN_TRY(expect_dtype(c, i, {DType::kF32}));
  if (c.shape(i).elements() != 1) {
    return fail(Status::kInvalidModel,
                "NonMaxSuppression: input %d must be one number, found %" PRId64, i,
                c.shape(i).elements());
  }
  PN_TRY(need_value(c, i));
  *out = *static_cast<const float*>(c.value(i));
  return Status::kOk;
}

Status read_shapes(const InferContext& c, Detection* d) {
  PN_TRY(expect_dtype(c, 0, {DType::kF32}));
  PN_TRY(expect_dtype(c, 1, {DType::kF32}));
  const Shape &b = c.shape(0), &s = c.shape(1);
  if (b.rank != 3 || s.rank != 3 || b[2] != 4 || b[0] != s[0] || b[1] != s[2]) {
    char tb[160], ts[160];
    return fail(Status::kInvalidModel,
                "NonMaxSuppression: boxes %s and scores %s; expected [B, N, 4] and [B, classes, N]",
                format_shape(b, tb, sizeof(tb)), format_shape(s, ts, sizeof(ts)));
  }
  d->batches = b[0];
  d->n = b[1];
  d->classes = s[1];
  return Status::kOk;
}

Status read_detection(const InferContext& c, Detection* d) {
  PN_TRY(read_shapes(c, d));
  PN_TRY(read_int_scalar(c, 2, 0, &d->most));
  PN_TRY(read_float(c, 3, &d->overlap));
  PN_TRY(read_float(c, 4, &d->threshold));
  if (!(d->overlap >= 0 && d->overlap <= 1)) {
    return fail(Status::kInvalidModel, "NonMaxSuppression: iou_threshold %g is outside [0, 1]",
                static_cast<double>(d->overlap));
  }
  const int64_t form = c.attrs.i64("center_point_box", 0);
  if (form != 0 && form != 1)
    return fail(Status::kInvalidModel,
                "NonMaxSuppression: center_point_box is %" PRId64 ", not 0 or 1", form);
  PN_TRY(need_value(c, 0));
  PN_TRY(need_value(c, 1));
  d->centered = form == 1;
  d->thresholded = c.has(4);
  d->boxes = static_cast<const float*>(c.value(0));
  d->scores = static_cast<const float*>(c.value(1));
  return Status::kOk;
}

struct Box {
  float y0, x0, y1, x1;
};

Box read_box(const float* p, bool centered) {
  if (centered) return Box{p[1] - p[3] / 2, p[0] - p[2] / 2, p[1] + p[3] / 2, p[0] + p[2] / 2};
  // Any two opposite corners.
  return Box{p[0] < p[2] ? p[0] : p[2], p[1] < p[3] ? p[1] : p[3], p[0] < p[2] ? p[2] : p[0],
             p[1] < p[3] ? p[3] : p[1]};
}

// Intersection over union above the limit; boxes without area overlap nothing.
bool overlaps(const Box& a, const Box& b, float limit) {
  const float h = (a.y1 < b.y1 ? a.y1 : b.y1) - (a.y0 > b.y0 ? a.y0 : b.y0);
  const float w = (a.x1 < b.x1 ? a.x1 : b.x1) - (a.x0 > b.x0 ? a.x0 : b.x0);
  if (!(h > 0 && w > 0)) return false;
  const float area_a = (a.y1 - a.y0) * (a.x1 - a.x0), area_b = (b.y1 - b.y0) * (b.x1 - b.x0);
  const float both = h * w, either = area_a + area_b - both;
  return both > 0 && area_a > 0 && area_b > 0 && either > 0 && both / either > limit;
}

void add_space(int64_t n, ScratchSize* size) {
  size->add(n, sizeof(Ranked));
  size->add(n, sizeof(Box));
}

// visit(batch, class, box) for each box kept, best first. `ranked` and `kept` have room for n.
template <typename F>
void suppress(const Detection& d, Ranked* ranked, Box* kept, F&& visit) {
  for (int64_t b = 0; b < d.batches; ++b) {
    for (int64_t k = 0; k < d.classes; ++k) {
      const float* score = d.scores + (b * d.classes + k) * d.n;
      int64_t left = 0, count = 0;
      for (int64_t i = 0; i < d.n; ++i) {
        if (!d.thresholded || score[i] > d.threshold)
          ranked[left++] = Ranked{order_key(DType::kF32, score, i), i};
      }
      make_heap(ranked, left, true);
      while (left > 0 && count < d.most) {
        const int64_t i = ranked[0].index;
        ranked[0] = ranked[--left];
        if (left > 0) sift_down(ranked, left, 0, true);
        const Box box = read_box(d.boxes + (b * d.n + i) * 4, d.centered);
        bool keep = true;
        for (int64_t j = 0; keep && j < count; ++j) keep = !overlaps(box, kept[j], d.overlap);
        if (!keep) continue;
        kept[count++] = box;
        visit(b, k, i);
      }
    }
  }
}

Status infer_nms(InferContext& c) {
  Detection d;
  PN_TRY(read_detection(c, &d));
  ScratchSize size;
  add_space(d.n, &size);
  Workspace space;
  PN_TRY(space.allocate("NonMaxSuppression", size.bytes()));
  Ranked* ranked = static_cast<Ranked*>(space.data());
  Shape y;
  y.rank = 2;
  y[1] = 3;
  suppress(d, ranked, reinterpret_cast<Box*>(ranked + d.n),
           [&](int64_t, int64_t, int64_t) { ++y[0]; });
  c.set(0, DType::kI64, y);
  return Status::kOk;
}

int64_t scratch_nms(const InferContext& c) {
  Detection d;
  if (read_shapes(c, &d) != Status::kOk) return 0;
  ScratchSize size;
  add_space(d.n, &size);
  return size.bytes();
}

Status run_nms(RunContext& c) {
  const AsInfer again(c);
  Detection d;
  PN_TRY(read_detection(again.context(), &d));
  Scratch scratch(c);
  Ranked* ranked = scratch.take<Ranked>(d.n);
  Box* kept = scratch.take<Box>(d.n);
  const Tensor& y = *c.out[0];
  int64_t found = 0;
  suppress(d, ranked, kept, [&](int64_t b, int64_t k, int64_t i) {
    if (found < y.dim(0)) {
      int64_t* row = y.as<int64_t>() + found * 3;
      row[0] = b;
      row[1] = k;
      row[2] = i;
    }
    ++found;
  });
  if (found == y.dim(0)) return Status::kOk;
  return fail(Status::kInvalidModel,
              "NonMaxSuppression: %" PRId64 " boxes are kept, the plan has %" PRId64, found,
              y.dim(0));
}

}  // namespace

extern const OpDef pn_ops_nms[] = {
    {"NonMaxSuppression", 2, 5, 1, 1, 0, infer_nms, run_nms, scratch_nms},
};
extern const int pn_ops_nms_count = sizeof(pn_ops_nms) / sizeof(OpDef);

}  // namespace pyneo
