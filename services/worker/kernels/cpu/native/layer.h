// Decoder layers in one call: between their operations the threads only meet. A layer is
//
//   hidden += out(attention(turn(qkv(norm(hidden)))))
//   hidden += down(silu(gate(norm(hidden))) * up(norm(hidden)))
#pragma once

#include "attention.h"
#include "linear.h"
#include "team.h"

namespace octavo {

struct Layer {
  Matrix qkv;      // kStoreBf16
  Matrix out;      // kAddF32
  Matrix gate_up;  // kSiluMul
  Matrix down;     // kAddF32
  const float* attention_norm;  // [hidden size]
  const float* mlp_norm;        // [hidden size]
  const float* query_norm;      // [head_dim], before queries are turned; null: none
  const float* key_norm;
  int64_t num_heads;
  float norm_eps;
  float scale;  // of the scores
};

// One step's rows, and memory for what lies between the operations.
struct LayerRows {
  const Rows* rows;
  const float* cos;  // [rows, head_dim], as sin
  const float* sin;
  float* hidden;     // [rows, hidden size], changed in place
  Bf16* normed;      // [rows, hidden size]
  Bf16* qkv;         // [rows, (heads + 2 x KV heads) x head_dim]
  float* turned;     // [rows, (heads + KV heads) x head_dim]
  float* scratch;    // of attention_scratch
  Bf16* attended;    // [rows, heads x head_dim]
  Bf16* gated;       // [rows, intermediate size]
};

// Layers one after the other; each has its cache, and its rows: layers with the same window share them.
void run_layers(Team& team, const Layer* layers, const Cache* caches, const LayerRows* const* steps,
                int64_t num_layers);

}  // namespace octavo
