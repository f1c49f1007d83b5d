// A matrix [outputs, inputs], packed once, times rows of activations.
//
//   panel    up to 96 output channels, in blocks of 16; a last panel may have fewer blocks
//   group    16 channels x 4 inputs: 64 codes of e4m3, or 64 bf16
//   memory   [panels][inputs / 4][blocks of the panel][group]: read from start to end, once
//
// Outputs are padded to 16 and inputs to 4, with zeros.
#pragma once

#include "isa.h"
#include "later.h"

namespace octavo {

enum WeightKind : int32_t { kE4m3 = 0, kBf16 = 1 };

// What becomes of the sums of a row, [outputs] float32.
enum Epilogue : int32_t {
  kStoreBf16 = 0,  // out [rows, outputs] bf16
  kStoreF32 = 1,   // out [rows, outputs] float32
  kAddF32 = 2,     // out [rows, outputs] float32 += sums
  kSiluMul = 3,    // outputs are gate and up: out [rows, outputs / 2] bf16 = silu(gate) * up
};

struct Matrix {
  const void* packed;
  const float* scales;        // [padded outputs], multiplied at the end; null: none
  const float* block_scales;  // [inputs / block_inputs][padded outputs / 16]; null: none
  const float* bias;          // [padded outputs]; null: none
  int64_t outputs;
  int64_t inputs;
  int64_t block_inputs;  // a multiple of 4
  int32_t weight_kind;
  int32_t epilogue;
};

constexpr int64_t kPanelBlocks = 6;
constexpr int64_t kBlockChannels = 16;

// A matrix of two halves with the same number of rows has their channels in turns of `kHalfBlocks`
// blocks: the first half's, then the second's, so that a panel holds both of an output.
constexpr int64_t kHalfBlocks = kPanelBlocks / 2;

int64_t packed_bytes(int64_t outputs, int64_t inputs, int32_t weight_kind, int32_t epilogue);

// Blocks of 16 outputs, padding included.
int64_t packed_blocks(int64_t outputs, int32_t epilogue);

// Values of outputs, in the order of the packed channels; padding is 0.
void pack_channels(float* packed, const float* values, int64_t outputs, int32_t epilogue);

// `rows` are matrix rows [count, inputs] from `first_row` on, as stored; called for each part.
void pack_rows(void* packed, const void* rows, int64_t first_row, int64_t count, int64_t outputs,
               int64_t inputs, int32_t weight_kind, int32_t epilogue);

// Whether products of so many rows ask for memory of later operations.
bool asks_for_later(int64_t num_rows);

// x [num_rows, inputs padded to 4] bf16, contiguous. `thread` of `num_threads` does its share, and
// asks for what it needs `later`, where that is known.
void linear(const Matrix& matrix, const Bf16* x, int64_t num_rows, void* out, int thread,
            int num_threads, Later* later = nullptr);

}  // namespace octavo
