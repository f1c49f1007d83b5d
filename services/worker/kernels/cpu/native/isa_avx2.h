// AVX2 with FMA and F16C (Haswell and later, Zen and later): float32 products.
//
// e4m3 becomes float16 by moving bits: a code in the upper byte of a word, shifted right by one with
// its sign, is the float16 of its value / 256, subnormals included; F16C makes float32 of it, and the
// sums are multiplied by 256 once. The codes 0x7f and 0xff (NaN) are refused when a checkpoint is
// read.
#pragma once

#include <immintrin.h>

namespace octavo {

constexpr int kAccs = 6;  // of two registers each
constexpr int kTileRows = 3;
constexpr int kTileBlocks = 2;

struct Acc {
  __m256 low, high;  // channels 0 to 7 and 8 to 15
};

using Input = Bf16;
constexpr int kInputs = 4;
using Broadcast = __m256;

inline Acc zero_acc() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Acc load_acc(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
inline void store_acc(float* to, Acc acc) {
  _mm256_storeu_ps(to, acc.low);
  _mm256_storeu_ps(to + 8, acc.high);
}

// A group lies as [4 inputs][16 channels], whatever its type.
constexpr int channel_offset(int channel, int input) { return input * 16 + channel; }
constexpr int bf16_offset(int channel, int input) { return input * 16 + channel; }

struct Fp8Four {
  const uint8_t* codes;
  Acc step(int index) const {
    __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 16 * index));
    __m256i words = _mm256_slli_epi16(_mm256_cvtepu8_epi16(bytes), 8);
    words = _mm256_and_si256(_mm256_srai_epi16(words, 1), _mm256_set1_epi16(short(0xbf80)));
    const __m256 scale = _mm256_set1_ps(256.0f);
    return {_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(words)), scale),
            _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(words, 1)), scale)};
  }
};

struct Bf16Four {
  const Bf16* weights;
  Acc step(int index) const {
    __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + 16 * index));
    __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(words));
    __m256i high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(words, 1));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))};
  }
};

struct Four {
  Acc steps[4];
  const Acc& step(int index) const { return steps[index]; }
};

template <class Packed>
inline Four expand(const Packed& four) {
  return {{four.step(0), four.step(1), four.step(2), four.step(3)}};
}

class Decoder {
 public:
  Fp8Four decode(const uint8_t* codes) const { return {codes}; }
};

inline Bf16Four load_bf16(const Bf16* weights) { return {weights}; }

inline Broadcast broadcast_input(Input x) { return _mm256_set1_ps(from_bf16(x)); }

template <int step, class AnyFour>
inline Acc multiply_step(Acc acc, const AnyFour& weights, Broadcast x) {
  const Acc& values = weights.step(step);
  return {_mm256_fmadd_ps(values.low, x, acc.low), _mm256_fmadd_ps(values.high, x, acc.high)};
}

inline Acc add(Acc a, Acc b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
inline Acc subtract(Acc a, Acc b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
inline Acc multiply(Acc a, Acc b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
inline Acc divide(Acc a, Acc b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
inline Acc maximum(Acc a, Acc b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
inline Acc broadcast(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
inline Acc scaled_add(Acc acc, Acc a, Acc b) {
  return {_mm256_fmadd_ps(a.low, b.low, acc.low), _mm256_fmadd_ps(a.high, b.high, acc.high)};
}

inline float horizontal_max(Acc a) {
  alignas(32) float values[8];
  _mm256_store_ps(values, _mm256_max_ps(a.low, a.high));
  float result = values[0];
  for (int i = 1; i < 8; ++i) result = values[i] > result ? values[i] : result;
  return result;
}

inline float horizontal_sum(Acc a) {
  alignas(32) float values[8];
  _mm256_store_ps(values, _mm256_add_ps(a.low, a.high));
  return ((values[0] + values[4]) + (values[2] + values[6])) +
         ((values[1] + values[5]) + (values[3] + values[7]));
}

// 2^x: a polynomial on [-1/2, 1/2] (relative error below 2e-7), then the exponent, in two steps so
// that the smallest results become subnormal and then 0.
inline __m256 exp2_half(__m256 x) {
  // In this order a NaN stays one.
  x = _mm256_max_ps(_mm256_set1_ps(-151.0f), _mm256_min_ps(_mm256_set1_ps(127.99f), x));
  __m256 whole = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 t = _mm256_sub_ps(x, whole);
  __m256 result = _mm256_set1_ps(1.5403530e-4f);
  result = _mm256_fmadd_ps(result, t, _mm256_set1_ps(1.3333558e-3f));
  result = _mm256_fmadd_ps(result, t, _mm256_set1_ps(9.6181291e-3f));
  result = _mm256_fmadd_ps(result, t, _mm256_set1_ps(5.5504109e-2f));
  result = _mm256_fmadd_ps(result, t, _mm256_set1_ps(2.4022651e-1f));
  result = _mm256_fmadd_ps(result, t, _mm256_set1_ps(6.9314718e-1f));
  result = _mm256_fmadd_ps(result, t, _mm256_set1_ps(1.0f));
  __m256i exponent = _mm256_cvtps_epi32(whole);
  __m256i half = _mm256_srai_epi32(exponent, 1);
  __m256i rest = _mm256_sub_epi32(exponent, half);
  const __m256i bias = _mm256_set1_epi32(127);
  __m256 first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  __m256 second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
  return _mm256_mul_ps(_mm256_mul_ps(result, first), second);
}

inline Acc exp2(Acc x) { return {exp2_half(x.low), exp2_half(x.high)}; }

inline void store_bf16(Bf16* to, Acc acc) {
  alignas(32) float values[16];
  store_acc(values, acc);
  for (int i = 0; i < 16; ++i) to[i] = to_bf16(values[i]);
}

inline Acc load_from_bf16(const Bf16* from) { return Bf16Four{from}.step(0); }

// Pairs of bf16: the first of each is the lower half of its word.
using PairBroadcast = __m256i;

inline PairBroadcast broadcast_pair(uint32_t pair) { return _mm256_set1_epi32(int(pair)); }

inline __m256 first_of(__m256i pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)); }
inline __m256 second_of(__m256i pairs) {
  return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(int(0xffff0000))));
}

inline Acc multiply_first_of_pairs(Acc acc, const Bf16* pairs, PairBroadcast x) {
  const auto* from = reinterpret_cast<const __m256i*>(pairs);
  __m256 value = first_of(x);
  return {_mm256_fmadd_ps(first_of(_mm256_loadu_si256(from)), value, acc.low),
          _mm256_fmadd_ps(first_of(_mm256_loadu_si256(from + 1)), value, acc.high)};
}

inline Acc multiply_pairs(Acc acc, const Bf16* pairs, PairBroadcast x) {
  const auto* from = reinterpret_cast<const __m256i*>(pairs);
  __m256 value = second_of(x);
  acc = multiply_first_of_pairs(acc, pairs, x);
  return {_mm256_fmadd_ps(second_of(_mm256_loadu_si256(from)), value, acc.low),
          _mm256_fmadd_ps(second_of(_mm256_loadu_si256(from + 1)), value, acc.high)};
}

}  // namespace octavo
