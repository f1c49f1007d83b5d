// AVX-512 with bf16 products and VBMI permutes (Zen 4 and later, Sapphire Rapids and later).
//
// e4m3 becomes bf16 by table: two vpermi2b look up the low and the high byte of 64 codes, one
// vpternlog puts the signs back, two unpacks make pairs for vdpbf16ps. The table holds e4m3's
// subnormals as normal bf16 numbers, so that vdpbf16ps, which takes denormals as zero, never meets
// one. The codes 0x7f and 0xff (NaN) are refused when a checkpoint is read.
#pragma once

#include <immintrin.h>

namespace octavo {

struct Tables {
  alignas(64) uint8_t low[128];
  alignas(64) uint8_t high[128];
  constexpr Tables() : low{}, high{} {
    for (int code = 0; code < 128; ++code) {
      int exponent = code >> 3, mantissa = code & 7;
      int bits = 0;
      if (exponent != 0) {
        bits = ((exponent + 120) << 7) | (mantissa << 4);
      } else if (mantissa != 0) {  // mantissa x 2^-9
        int top = mantissa >= 4 ? 2 : mantissa >= 2 ? 1 : 0;
        bits = ((top - 9 + 127) << 7) | (((mantissa << (2 - top)) & 3) << 5);
      }
      low[code] = static_cast<uint8_t>(bits & 0xff);
      high[code] = static_cast<uint8_t>(bits >> 8);
    }
  }
};

inline constexpr Tables kTables{};

constexpr int kAccs = 24;
constexpr int kTileRows = 4;
constexpr int kTileBlocks = 6;

using Acc = __m512;
using Input = uint32_t;  // two bf16
constexpr int kInputs = 2;

struct Four {
  __m512i first, second;  // pairs (k0, k1) and (k2, k3) of 16 channels
};

using Fp8Four = Four;
using Bf16Four = Four;

inline const Four& expand(const Four& four) { return four; }

class Decoder {
 public:
  Decoder()
      : low0_(_mm512_load_si512(kTables.low)),
        low1_(_mm512_load_si512(kTables.low + 64)),
        high0_(_mm512_load_si512(kTables.high)),
        high1_(_mm512_load_si512(kTables.high + 64)),
        sign_(_mm512_set1_epi8(static_cast<char>(0x80))) {}

  // 64 codes: 16 channels x 4 inputs, in the order that `channel_offset` gives.
  Four decode(const uint8_t* codes) const {
    __m512i index = _mm512_loadu_si512(codes);
    __m512i low = _mm512_permutex2var_epi8(low0_, index, low1_);
    __m512i high = _mm512_permutex2var_epi8(high0_, index, high1_);
    high = _mm512_ternarylogic_epi64(high, index, sign_, 0xf8);  // high | (index & sign)
    return {_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)};
  }

 private:
  __m512i low0_, low1_, high0_, high1_, sign_;
};

// Where the weight of (channel, input) lies in a group of 16 channels x 4 inputs, in elements.
constexpr int channel_offset(int channel, int input) {
  return (channel / 4) * 16 + (input / 2) * 8 + (channel % 4) * 2 + input % 2;
}

// Weights that are bf16 already lie as `Four` does.
constexpr int bf16_offset(int channel, int input) {
  return (input / 2) * 32 + channel * 2 + input % 2;
}

inline Four load_bf16(const Bf16* weights) {
  return {_mm512_loadu_si512(weights), _mm512_loadu_si512(weights + 32)};
}

inline Acc zero_acc() { return _mm512_setzero_ps(); }
inline Acc load_acc(const float* from) { return _mm512_loadu_ps(from); }
inline void store_acc(float* to, Acc acc) { _mm512_storeu_ps(to, acc); }

using Broadcast = __m512i;  // an Input in every lane

inline Broadcast broadcast_input(Input x) { return _mm512_set1_epi32(static_cast<int>(x)); }

// The products with the Input of this `step`, below kInputs.
template <int step>
inline Acc multiply_step(Acc acc, const Four& weights, Broadcast x) {
  __m512i pair = step == 0 ? weights.first : weights.second;
  return _mm512_dpbf16_ps(acc, (__m512bh)pair, (__m512bh)x);
}


using PairBroadcast = __m512i;  // a pair of bf16 in every lane

inline PairBroadcast broadcast_pair(uint32_t pair) { return _mm512_set1_epi32(int(pair)); }

// Sixteen pairs of bf16, each times the pair in every lane of `x`.
inline Acc multiply_pairs(Acc acc, const Bf16* pairs, PairBroadcast x) {
  return _mm512_dpbf16_ps(acc, (__m512bh)_mm512_loadu_si512(pairs), (__m512bh)x);
}

// The same with the second of each pair taken as 0, whatever it is.
inline Acc multiply_first_of_pairs(Acc acc, const Bf16* pairs, PairBroadcast x) {
  __m512i first = _mm512_maskz_mov_epi16(0x55555555u, _mm512_loadu_si512(pairs));
  return _mm512_dpbf16_ps(acc, (__m512bh)first, (__m512bh)x);
}

inline Acc add(Acc a, Acc b) { return _mm512_add_ps(a, b); }
inline Acc multiply(Acc a, Acc b) { return _mm512_mul_ps(a, b); }
inline Acc broadcast(float value) { return _mm512_set1_ps(value); }
inline Acc subtract(Acc a, Acc b) { return _mm512_sub_ps(a, b); }
inline Acc divide(Acc a, Acc b) { return _mm512_div_ps(a, b); }
inline Acc maximum(Acc a, Acc b) { return _mm512_max_ps(a, b); }
inline float horizontal_max(Acc a) { return _mm512_reduce_max_ps(a); }
inline float horizontal_sum(Acc a) { return _mm512_reduce_add_ps(a); }

// 2^x: a polynomial on [-1/2, 1/2] (relative error below 2e-7), then the exponent; 0 below -150.
inline Acc exp2(Acc x) {
  Acc whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  Acc t = _mm512_sub_ps(x, whole);
  Acc result = broadcast(1.5403530e-4f);
  result = _mm512_fmadd_ps(result, t, broadcast(1.3333558e-3f));
  result = _mm512_fmadd_ps(result, t, broadcast(9.6181291e-3f));
  result = _mm512_fmadd_ps(result, t, broadcast(5.5504109e-2f));
  result = _mm512_fmadd_ps(result, t, broadcast(2.4022651e-1f));
  result = _mm512_fmadd_ps(result, t, broadcast(6.9314718e-1f));
  result = _mm512_fmadd_ps(result, t, broadcast(1.0f));
  return _mm512_scalef_ps(result, whole);
}

inline Acc scaled_add(Acc acc, Acc a, Acc b) { return _mm512_fmadd_ps(a, b, acc); }

// Sixteen float32 to bf16, to the nearest even.
inline void store_bf16(Bf16* to, Acc acc) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(acc));
}

inline Acc load_from_bf16(const Bf16* from) {
  __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

}  // namespace octavo
