// Norms, rotary embeddings and gated activations: a row at a time.
#pragma once

#include "isa.h"

namespace octavo {

// out [rows, width] bf16 = x / sqrt(mean(x^2) + eps) * weight, x float32. Sums run in 16 lanes, in
// the order of the elements.
void rms_norm(const float* x, const float* weight, float eps, int64_t num_rows, int64_t width,
              Bf16* out, int thread, int num_threads);

// Normalises each head of x [rows, heads, head_dim] bf16 by itself, in place; rows lie `x_stride`
// elements apart.
void norm_heads(Bf16* x, int64_t x_stride, const float* weight, float eps, int64_t num_rows,
                int64_t num_heads, int64_t head_dim, int thread, int num_threads);

// out [rows, heads, head_dim] float32: the pair (x[i], x[i + head_dim / 2]) turned by the angle i of
// the row. x is bf16 or float32, `x_stride` elements a row; cos and sin are [rows, head_dim], the
// first half of sin negated.
void rotary(const void* x, bool x_is_f32, int64_t x_stride, const float* cos, const float* sin,
            int64_t num_rows, int64_t num_heads, int64_t head_dim, float* out, int thread,
            int num_threads);

// out [rows, width] bf16 = silu(gate) * up of gate_up [rows, 2 x width] bf16.
void silu_mul(const Bf16* gate_up, int64_t num_rows, int64_t width, Bf16* out, int thread,
              int num_threads);

}  // namespace octavo
