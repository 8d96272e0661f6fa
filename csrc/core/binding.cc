// SPDX-License-Identifier: Apache-2.0
#include "core/binding.h"

#include <cstring>
#include <new>

namespace pyneo {

Binding* Binding::make() {
  void* memory = calloc(1, sizeof(Binding));
  return memory ? new (memory) Binding() : nullptr;
}

void Binding::destroy(Binding* b) {
  if (b == nullptr) return;
  b->~Binding();
  free(b);
}

Binding::~Binding() {
  for (int64_t i = 0; i < values_.size(); ++i) free(values_[i]);
}

bool Binding::matches(const Live* live) const {
  for (int32_t i = 0; i < slots_in_; ++i) {
    const Slot& s = slots_[i];
    const Live& x = live[s.tensor];
    if (s.desc.dtype != x.desc.dtype || s.desc.layout != x.desc.layout || s.desc.shape != x.desc.shape) return false;
    if ((s.value != nullptr) != x.known) return false;
    if (x.known && memcmp(s.value, x.data, static_cast<size_t>(x.desc.bytes())) != 0) return false;
  }
  return true;
}

int64_t Binding::overhead_bytes() const {
  return static_cast<int64_t>(sizeof(Binding)) + states_.bytes() +
         tensors_.size() * static_cast<int64_t>(sizeof(Tensor) + sizeof(Place)) +
         operands_.size() * static_cast<int64_t>(sizeof(Tensor*)) + steps_.size() * static_cast<int64_t>(sizeof(Step)) +
         bound_.size() * static_cast<int64_t>(sizeof(Bound)) + slots_.size() * static_cast<int64_t>(sizeof(Slot));
}

void Binding::attach(const RunMemory& memory, Pool* pool) {
  if (epoch_ == memory.epoch) return;
  epoch_ = memory.epoch;
  uint8_t* arena = memory.arena.data();
  for (int64_t i = 0; i < tensors_.size(); ++i) {
    if (places_[i].kind == Place::kArena) tensors_[i].data = arena + places_[i].offset;
  }
  for (int64_t i = 0; i < steps_.size(); ++i) {
    RunContext& run = steps_[i].run;
    run.scratch = steps_[i].scratch < 0 ? nullptr : arena + steps_[i].scratch;
    run.thread_scratch = memory.thread_scratch.data();
    run.thread_stride = memory.thread_stride;
    run.pool = pool;
  }
}

}  // namespace pyneo
