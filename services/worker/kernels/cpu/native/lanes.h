// Sixteen elements at a time, and what is left over at the end of a row: through the same vector code,
// by way of a buffer, so that an element's bits do not depend on where it stands.
#pragma once

#include <algorithm>

#include "isa.h"

namespace octavo {

constexpr int64_t kLanes = 16;

inline Acc load_some(const float* from, int64_t count) {
  if (count >= kLanes) return load_acc(from);
  alignas(64) float values[kLanes] = {};
  std::copy_n(from, count, values);
  return load_acc(values);
}

inline Acc load_some(const Bf16* from, int64_t count) {
  if (count >= kLanes) return load_from_bf16(from);
  alignas(64) Bf16 values[kLanes] = {};
  std::copy_n(from, count, values);
  return load_from_bf16(values);
}

inline void store_some(Bf16* to, int64_t count, Acc acc) {
  if (count >= kLanes) return store_bf16(to, acc);
  alignas(64) Bf16 values[kLanes];
  store_bf16(values, acc);
  std::copy_n(values, count, to);
}

inline void store_some(float* to, int64_t count, Acc acc) {
  if (count >= kLanes) return store_acc(to, acc);
  alignas(64) float values[kLanes];
  store_acc(values, acc);
  std::copy_n(values, count, to);
}

}  // namespace octavo
