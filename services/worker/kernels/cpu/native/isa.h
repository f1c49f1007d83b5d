// What one instruction set offers to the kernels: sixteen float32 sums, weights decoded four deep.
//
// A kernel is written once, against these names. An instruction set brings
//
//   Acc              16 float32, one for each output channel of a block
//   Four             a block's weights for four consecutive inputs, as products take them
//   Fp8Four, Bf16Four  the same as they come from memory; `expand` makes a Four
//   Input            what four consecutive activations are read as (kInputs of them)
//   kAccs            how many Acc fit its registers, with what they are multiplied with
//   kTileRows, kTileBlocks   the tile for many rows, of decoded weights
//
// Each output has one Acc lane, to which products are added in the order of the inputs. That order
// is all that a result's bits depend on, so a row's bits are the same however rows are tiled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace octavo {

using Bf16 = uint16_t;

inline float from_bf16(Bf16 value) {
  uint32_t bits = static_cast<uint32_t>(value) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

// Rounds to the nearest, ties to even; a NaN stays one.
inline Bf16 to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<Bf16>((bits >> 16) | 0x40u);
  return static_cast<Bf16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace octavo

#if defined(__AVX512BF16__) && defined(__AVX512VBMI__)
#include "isa_avx512bf16.h"
#elif defined(__AVX2__) && defined(__F16C__) && defined(__FMA__)
#include "isa_avx2.h"
#else
#error "no kernels for this instruction set"
#endif

namespace octavo {

constexpr float kLog2E = 1.44269504f;

// x / (1 + e^-x)
inline Acc silu(Acc x) {
  return divide(x, add(broadcast(1.0f), exp2(multiply(x, broadcast(-kLog2E)))));
}

}  // namespace octavo
