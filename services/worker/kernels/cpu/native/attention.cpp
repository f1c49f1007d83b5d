#include "attention.h"

#include <algorithm>
#include <cmath>

#include "lanes.h"

namespace octavo {

namespace {

constexpr int kQueries = 6;        // that share what is read of the keys and values
constexpr int64_t kDimBlocks = 4;  // of 16 dimensions, summed at a time
constexpr float kLargestStored = 1e15f;
constexpr float kHidden = -1e30f;  // a score that no visible key comes near

struct Span {
  int64_t first_tile, num_tiles;
  int64_t begin, end;  // the positions that the row sees
};

Span span_of(const Rows& rows, int64_t row) {
  Span span;
  span.end = rows.positions[row] + 1;
  span.begin = rows.window > 0 ? std::max<int64_t>(0, span.end - rows.window) : 0;
  span.first_tile = span.begin / kKeyTile;
  span.num_tiles = (span.end - 1) / kKeyTile - span.first_tile + 1;
  return span;
}

// Of one query and tile: the sums of p v, then the maximum and the sum of p.
int64_t tile_floats(const Cache& cache) { return cache.head_dim + 2; }

Bf16 stored(float value) {
  if (std::isnan(value)) return 0;
  return to_bf16(std::clamp(value, -kLargestStored, kLargestStored));
}

// Queries of one KV head and one key tile, up to kQueries at once: neighbouring rows of one sequence
// see nearly the same keys.
class TileWork {
 public:
  TileWork(const Cache& cache, const Rows& rows, const float* queries, int64_t query_stride,
           int64_t num_heads, float scale, float* scratch)
      : cache_(cache),
        rows_(rows),
        queries_(queries),
        query_stride_(query_stride),
        heads_each_(num_heads / cache.num_kv_heads),
        num_heads_(num_heads),
        scale_(scale * kLog2E),
        scratch_(scratch) {}

  // The queries of `count` rows from `row` on, for one KV head and the tile.
  void run(int64_t row, int64_t count, int64_t kv_head, int64_t tile) {
    kv_head_ = kv_head;
    tile_ = tile;
    table_ = rows_.block_tables + rows_.sequences[row] * rows_.table_width;
    int64_t total = count * heads_each_;
    for (int64_t first = 0; first < total; first += kQueries) {
      int64_t some = std::min<int64_t>(kQueries, total - first);
      switch (some) {
        case 1: queries<1>(row, first); break;
        case 2: queries<2>(row, first); break;
        case 3: queries<3>(row, first); break;
        case 4: queries<4>(row, first); break;
        case 5: queries<5>(row, first); break;
        default: queries<6>(row, first); break;
      }
    }
  }

 private:
  struct Query {
    int64_t row, head, begin, end;  // the keys that it sees, counted from the tile's first
  };

  template <int count>
  void queries(int64_t row, int64_t first) {
    Query list[count];
    int64_t begin = kKeyTile, end = 0;
    for (int i = 0; i < count; ++i) {
      Query& query = list[i];
      query.row = row + (first + i) / heads_each_;
      query.head = kv_head_ * heads_each_ + (first + i) % heads_each_;
      Span span = span_of(rows_, query.row);
      query.begin = std::clamp<int64_t>(span.begin - tile_ * kKeyTile, 0, kKeyTile);
      query.end = std::clamp<int64_t>(span.end - tile_ * kKeyTile, 0, kKeyTile);
      begin = std::min(begin, query.begin);
      end = std::max(end, query.end);
      load_query(query, i);
    }
    if (begin >= end) return;
    begin = begin / kLanes * kLanes;
    scores<count>(begin, end);
    for (int i = 0; i < count; ++i) weigh(list[i], i, begin, end);
    sum_values<count>(list, begin, end);
  }

  void load_query(const Query& query, int index) {
    const float* from = queries_ + query.row * query_stride_ + query.head * cache_.head_dim;
    Bf16* to = query_ + index * kMostDims;
    for (int64_t d = 0; d < cache_.head_dim; d += kLanes) store_bf16(to + d, load_acc(from + d));
  }

  // The keys or values of 16 positions from `position` on.
  const Bf16* lanes(const Bf16* base, int64_t position) const {
    const int64_t at = tile_ * kKeyTile + position;
    const int64_t block = kv_head_ * cache_.num_blocks + table_[at / cache_.block_tokens];
    return base + (block * cache_.block_tokens + at % cache_.block_tokens) * cache_.head_dim;
  }

  // The 16 positions after these, or these where they are the last. Blocks lie anywhere: the next is
  // asked for while this one is read.
  static int64_t after(int64_t position, int64_t end) {
    return position + kLanes < end ? position + kLanes : position;
  }

  template <int count>
  void scores(int64_t begin, int64_t end) {
    const int64_t pairs = cache_.head_dim / 2;
    const Acc scale = broadcast(scale_);
    for (int64_t position = begin; position < end; position += kLanes) {
      const Bf16* keys = lanes(cache_.keys, position);
      const Bf16* next = lanes(cache_.keys, after(position, end));
      Acc acc[count];
      for (auto& sum : acc) sum = zero_acc();
      for (int64_t d = 0; d < pairs; ++d) {
        __builtin_prefetch(next + d * 2 * kLanes);
        for (int i = 0; i < count; ++i) {
          uint32_t pair;
          std::memcpy(&pair, query_ + i * kMostDims + 2 * d, sizeof pair);
          acc[i] = multiply_pairs(acc[i], keys + d * 2 * kLanes, broadcast_pair(pair));
        }
      }
      for (int i = 0; i < count; ++i)
        store_acc(score_ + i * kKeyTile + position, multiply(acc[i], scale));
    }
  }

  // Scores become weights, in bf16; the peak and the sum go to the scratch memory.
  void weigh(const Query& query, int index, int64_t begin, int64_t end) {
    float* score = score_ + index * kKeyTile;
    Bf16* weight = weight_ + index * kKeyTile;
    const int64_t stop = (end + kLanes - 1) / kLanes * kLanes;
    std::fill(score + begin, score + std::max(begin, query.begin), kHidden);
    std::fill(score + std::max(begin, query.end), score + stop, kHidden);
    Acc peaks = broadcast(kHidden);
    for (int64_t at = begin; at < stop; at += kLanes) peaks = maximum(peaks, load_acc(score + at));
    const float peak = horizontal_max(peaks);
    Acc sums = zero_acc();
    for (int64_t at = begin; at < stop; at += kLanes) {
      Acc p = exp2(subtract(load_acc(score + at), broadcast(peak)));
      store_bf16(weight + at, p);
      sums = add(sums, load_from_bf16(weight + at));
    }
    float* part = part_of(query);
    part[cache_.head_dim] = query.begin < query.end ? peak : kHidden;
    part[cache_.head_dim + 1] = query.begin < query.end ? horizontal_sum(sums) : 0.0f;
  }

  template <int count>
  void sum_values(const Query* list, int64_t begin, int64_t end) {
    const int64_t dim_blocks = cache_.head_dim / kLanes;
    for (int64_t dim = 0; dim < dim_blocks; dim += kDimBlocks) {
      switch (std::min(kDimBlocks, dim_blocks - dim)) {
        case 1: sum_dims<count, 1>(list, dim, begin, end); break;
        case 2: sum_dims<count, 2>(list, dim, begin, end); break;
        case 3: sum_dims<count, 3>(list, dim, begin, end); break;
        default: sum_dims<count, 4>(list, dim, begin, end); break;
      }
    }
  }

  template <int count, int dims>
  void sum_dims(const Query* list, int64_t dim, int64_t begin, int64_t end) {
    Acc acc[count][dims];
    for (auto& row : acc)
      for (auto& sum : row) sum = zero_acc();
    for (int64_t group = begin; group < end; group += kLanes) {
      const Bf16* values = lanes(cache_.values, group) + dim * 2 * kLanes;
      const Bf16* next = lanes(cache_.values, after(group, end)) + dim * 2 * kLanes;
      const int64_t stop = std::min(end, group + kLanes);
      for (int64_t position = group; position < stop; position += 2) {
        for (int d = 0; d < dims; ++d) __builtin_prefetch(next + d * 2 * kLanes);
        const bool is_last_alone = position + 1 == end;  // what lies after it may be anything
        for (int i = 0; i < count; ++i) {
          uint32_t pair;
          std::memcpy(&pair, weight_ + i * kKeyTile + position, sizeof pair);
          PairBroadcast weights = broadcast_pair(pair);
          for (int d = 0; d < dims; ++d)
            acc[i][d] = is_last_alone
                            ? multiply_first_of_pairs(acc[i][d], values + d * 2 * kLanes, weights)
                            : multiply_pairs(acc[i][d], values + d * 2 * kLanes, weights);
        }
        values += 2 * cache_.head_dim;
        next += 2 * cache_.head_dim;
      }
    }
    for (int i = 0; i < count; ++i)
      for (int d = 0; d < dims; ++d)
        store_acc(part_of(list[i]) + (dim + d) * kLanes, acc[i][d]);
  }

  float* part_of(const Query& query) {
    int64_t index = tile_ - span_of(rows_, query.row).first_tile;
    if (index < 0) return unseen_;  // a neighbour's tile, before this query's window
    return scratch_ +
           ((query.row * num_heads_ + query.head) * rows_.tiles_each + index) * tile_floats(cache_);
  }

  static constexpr int64_t kMostDims = 256;

  const Cache& cache_;
  const Rows& rows_;
  const float* const queries_;
  const int64_t query_stride_, heads_each_, num_heads_;
  const float scale_;
  float* const scratch_;
  int64_t kv_head_ = 0, tile_ = 0;
  const int64_t* table_ = nullptr;
  alignas(64) Bf16 query_[kQueries * kMostDims];
  alignas(64) float score_[kQueries * kKeyTile];
  alignas(64) Bf16 weight_[kQueries * kKeyTile];
  alignas(64) float unseen_[kMostDims + 2];
};

// Rows of one sequence whose queries fill a tile's work, from `row` on.
int64_t rows_together(const Rows& rows, int64_t row, int64_t heads_each) {
  const int64_t most = std::max<int64_t>(1, kQueries / heads_each);
  int64_t count = 1;
  while (count < most && row + count < rows.num_rows &&
         rows.sequences[row + count] == rows.sequences[row] &&
         rows.positions[row + count] == rows.positions[row] + count)
    ++count;
  return count;
}

}  // namespace

void write_kv(const Cache& cache, const Rows& rows, const float* keys, int64_t key_stride,
              const Bf16* values, int64_t value_stride, int thread, int num_threads) {
  const int64_t dims = cache.head_dim;
  for (int64_t row = thread; row < rows.num_rows; row += num_threads) {
    const int64_t block = rows.slots[row] / cache.block_tokens;
    const int64_t offset = rows.slots[row] % cache.block_tokens;
    for (int64_t head = 0; head < cache.num_kv_heads; ++head) {
      const int64_t base = (head * cache.num_blocks + block) * cache.block_tokens * dims;
      const float* key = keys + row * key_stride + head * dims;
      const Bf16* value = values + row * value_stride + head * dims;
      Bf16* to = cache.keys + base + offset / kLanes * kLanes * dims + offset % kLanes * 2;
      for (int64_t d = 0; d < dims; ++d) to[d / 2 * 2 * kLanes + d % 2] = stored(key[d]);
      to = cache.values + base + offset / 2 * 2 * dims + offset % 2;
      for (int64_t d = 0; d < dims; ++d) to[2 * d] = stored(from_bf16(value[d]));
    }
  }
}

int64_t most_tiles(const Rows& rows) {
  int64_t most = 1;
  for (int64_t row = 0; row < rows.num_rows; ++row)
    most = std::max(most, span_of(rows, row).num_tiles);
  return most;
}

int64_t attention_scratch(const Cache& cache, const Rows& rows, int64_t num_heads) {
  return rows.num_rows * num_heads * rows.tiles_each * tile_floats(cache);
}

void attend_tiles(const Cache& cache, const Rows& rows, const float* queries, int64_t query_stride,
                  int64_t num_heads, float scale, float* scratch, int thread, int num_threads) {
  TileWork work(cache, rows, queries, query_stride, num_heads, scale, scratch);
  const int64_t heads_each = num_heads / cache.num_kv_heads;
  int64_t unit = 0;
  for (int64_t row = 0; row < rows.num_rows;) {
    const int64_t count = rows_together(rows, row, heads_each);
    const Span first = span_of(rows, row), last = span_of(rows, row + count - 1);
    const int64_t end = last.first_tile + last.num_tiles;
    for (int64_t tile = first.first_tile; tile < end; ++tile)
      for (int64_t head = 0; head < cache.num_kv_heads; ++head)
        if (unit++ % num_threads == thread) work.run(row, count, head, tile);
    row += count;
  }
}

void merge_tiles(const Cache& cache, const Rows& rows, int64_t num_heads, const float* scratch,
                 Bf16* out, int thread, int num_threads) {
  const int64_t tiles_each = rows.tiles_each, floats = tile_floats(cache), dims = cache.head_dim;
  for (int64_t row = thread; row < rows.num_rows; row += num_threads) {
    const int64_t num_tiles = span_of(rows, row).num_tiles;
    for (int64_t head = 0; head < num_heads; ++head) {
      const float* parts = scratch + (row * num_heads + head) * tiles_each * floats;
      float peak = kHidden;
      for (int64_t tile = 0; tile < num_tiles; ++tile)
        peak = std::max(peak, parts[tile * floats + dims]);
      Bf16* to = out + (row * num_heads + head) * dims;
      for (int64_t d = 0; d < dims; d += kLanes) {
        Acc sum = zero_acc(), weights = zero_acc();
        for (int64_t tile = 0; tile < num_tiles; ++tile) {
          const float* part = parts + tile * floats;
          Acc weight = exp2(broadcast(part[dims] - peak));
          sum = scaled_add(sum, weight, load_acc(part + d));
          weights = scaled_add(weights, weight, broadcast(part[dims + 1]));
        }
        store_bf16(to + d, divide(sum, weights));
      }
    }
  }
}

}  // namespace octavo
