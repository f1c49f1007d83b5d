// Attention over paged keys and values, for prompts and for decoding alike.
//
// A block's keys and values of one head lie so that products need no shuffle:
//
//   keys     [block tokens / 16][head_dim / 2][16 tokens][2]
//   values   [block tokens / 2][head_dim][2 tokens]
//
// Keys come in tiles of kKeyTile positions, counted from the start of the sequence. For each query
// and tile: scores s_j, their maximum m, p_j = 2^(s_j - m) rounded to bf16, the sum l of the p_j,
// and o = sum p_j v_j. A query's tiles are then added up in order, each weighed 2^(m - max m). What a
// tile gives depends on its query and its keys alone, so a query's bits are the same in any step.
#pragma once

#include "isa.h"
#include "later.h"

namespace octavo {

constexpr int64_t kKeyTile = 256;

struct Cache {
  Bf16* keys;    // [KV heads, blocks, block_tokens x head_dim]
  Bf16* values;  // the same
  int64_t num_kv_heads;
  int64_t num_blocks;
  int64_t block_tokens;  // a multiple of 16
  int64_t head_dim;      // a multiple of 16
};

// The rows of a step, each one token.
struct Rows {
  const int64_t* positions;     // [rows]
  const int64_t* slots;         // [rows] block x block_tokens + offset, where its key and value go
  const int64_t* sequences;     // [rows] the row of `block_tables`
  const int64_t* block_tables;  // [sequences, table_width] blocks
  int64_t table_width;
  int64_t num_rows;
  int64_t window;  // the latest keys that a token sees; 0: all
  int64_t tiles_each;  // of most_tiles: places for a query's tiles in scratch memory
};

// The key tiles of the row that sees the most.
int64_t most_tiles(const Rows& rows);

// Stores key and value rows [rows, KV heads x head_dim]; what is not finite is stored as a large
// number, a NaN as 0: a hidden key weighs 0, but 0 x infinity would reach another's sum.
void write_kv(const Cache& cache, const Rows& rows, const float* keys, int64_t key_stride,
              const Bf16* values, int64_t value_stride, int thread, int num_threads);

// Floats of scratch memory that `attend` needs.
int64_t attention_scratch(const Cache& cache, const Rows& rows, int64_t num_heads);

// The first half of attention: every query with every key tile, into `scratch`.
void attend_tiles(const Cache& cache, const Rows& rows, const float* queries, int64_t query_stride,
                  int64_t num_heads, float scale, float* scratch, int thread, int num_threads);

// What a thread reads of keys and values in the first half, as bytes from the start of the keys, up to
// what a cache close to the core may hold.
void expect_tiles(const Cache& cache, const Rows& rows, int64_t num_heads, int thread,
                  int num_threads, Later& later);

// The second, after all threads are done with the first: out [rows, heads x head_dim] bf16.
void merge_tiles(const Cache& cache, const Rows& rows, int64_t num_heads, const float* scratch,
                 Bf16* out, int thread, int num_threads);

}  // namespace octavo
