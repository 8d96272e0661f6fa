// SPDX-License-Identifier: Apache-2.0
//
// State: inputs that take the value of an output of the run before. A state has two buffers that change places
// after each run; nothing is copied.
#include <cstring>

#include "core/context.h"

namespace pyneo {

// The size that a caller's input gives to a symbol.
bool Context::symbol_size(int64_t symbol, int64_t* size) const {
  for (int32_t i = 0; i < model_->input_count() - model_->state_count(); ++i) {
    const format::TensorRecord& r = model_->plan().tensor(model_->input(i));
    for (int k = 0; k < r.rank; ++k) {
      if (r.dims[k] == symbol) {
        *size = input_shapes_[i][k];
        return true;
      }
    }
  }
  return false;
}

// State begins at zero: with the sizes that other inputs give to its symbols, else with their lower bounds. Later
// it has the shape that the run before gave it, which must still fit.
Status Context::begin_state() {
  const int32_t count = model_->state_count(), inputs = model_->input_count();
  for (int32_t k = 0; k < count; ++k) {
    const int32_t slot = inputs - count + k, out_slot = slots() - count + k, tensor = model_->input(slot);
    const format::TensorRecord& r = model_->plan().tensor(tensor);
    const char* name = slot_tensor(slot).name;
    Shape shape = fresh_ ? slot_tensor(slot).desc.shape : input_shapes_[slot];
    for (int i = 0; i < shape.rank && shape.rank == r.rank; ++i) {
      int64_t given = 0;
      const bool open = r.dims[i] < 0 && r.dims[i] != INT64_MIN;
      if (!open) {
        if (fresh_ && r.dims[i] < 0) shape[i] = 0;
        continue;
      }
      const format::SymbolRecord& symbol = model_->plan().symbol(-1 - r.dims[i]);
      const bool shared = symbol_size(r.dims[i], &given);
      if (fresh_) {
        shape[i] = shared ? given : symbol.min;
      } else if (shared && given != shape[i]) {
        return fail(Status::kInvalidArgument, "%s is %lld now, and the state '%s' was made for %lld: reset the session first",
                    model_->plan().string(symbol.name), static_cast<long long>(given), name, static_cast<long long>(shape[i]));
      }
    }
    if (!fresh_ && model_->input_fits(slot, shape)) continue;
    char limits[160], found[160];
    if (!model_->input_fits(slot, shape)) {
      return fail(Status::kInvalidArgument, "the state '%s' is %s, its bounds are %s: reset the session", name,
                  format_shape(shape, found, sizeof(found)), model_->format_input_shape(slot, limits, sizeof(limits)));
    }
    TensorDesc desc = slot_tensor(slot).desc;
    desc.shape = shape;
    int64_t elements = 0;
    if (!checked_elements(shape, static_cast<int64_t>(dtype_size(desc.dtype)), &elements)) {
      return fail(Status::kOutOfMemory, "the state '%s' does not fit in memory", name);
    }
    Buffer& value = flow_ != nullptr ? flow_->live(tensor).own : state_[2 * k];
    PN_TRY(value.grow(desc.bytes(), name));
    if (desc.bytes() > 0) memset(value.data, 0, static_cast<size_t>(desc.bytes()));
    set_state(slot, desc, value.data);
    if (flow_ == nullptr) {
      PN_TRY(state_[2 * k + 1].grow(desc.bytes(), name));
      buffers_[out_slot] = state_[2 * k + 1].data;
      buffer_bytes_[out_slot] = desc.bytes();
      bound_->set_buffer(out_slot, buffers_[out_slot]);
    }
  }
  fresh_ = false;
  return Status::kOk;
}

void Context::set_state(int32_t slot, const TensorDesc& desc, uint8_t* data) {
  buffers_[slot] = data;
  buffer_bytes_[slot] = desc.bytes();
  if (desc.shape != input_shapes_[slot]) {
    input_shapes_[slot] = desc.shape;
    bound_ = nullptr;
    segmented_ = false;
  }
  if (flow_ != nullptr) {
    Live& x = flow_->live(model_->input(slot));
    x.desc = desc;
    x.data = data;
  }
  if (bound_ != nullptr) bound_->set_buffer(slot, data);
}

// What the run made is the value; the old value's memory takes the next one.
Status Context::keep_state() {
  const int32_t count = model_->state_count();
  Binding* const ran = bound_;  // a state of a new shape ends its time
  for (int32_t o = 0; o < model_->output_count() - count; ++o) {
    const int32_t slot = model_->input_count() + o;
    results_[o] = ran != nullptr ? Tensor{ran->slots()[slot].desc, buffers_[slot]}
                                 : Tensor{output_live(o).desc, output_live(o).data};
  }
  for (int32_t k = 0; k < count; ++k) {
    const int32_t slot = model_->input_count() - count + k, out_slot = slots() - count + k;
    TensorDesc desc = slot_tensor(slot).desc;
    Live* to = flow_ != nullptr ? &flow_->live(model_->input(slot)) : nullptr;
    Live* from = flow_ != nullptr ? &output_live(model_->output_count() - count + k) : nullptr;
    Buffer* value = to != nullptr ? &to->own : &state_[2 * k];
    Buffer* next = from != nullptr ? &from->own : &state_[2 * k + 1];
    desc.shape = ran != nullptr ? ran->slots()[out_slot].desc.shape : from->desc.shape;
    const Buffer was = *value;
    *value = *next;
    *next = was;
    set_state(slot, desc, value->data);
    buffers_[out_slot] = next->data;
    buffer_bytes_[out_slot] = desc.bytes();
    if (bound_ != nullptr) bound_->set_buffer(out_slot, next->data);
  }
  return Status::kOk;
}

}  // namespace pyneo
