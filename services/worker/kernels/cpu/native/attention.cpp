#include "attention.h"

#include <algorithm>
#include <cmath>

#include "lanes.h"
#include "share.h"

namespace octavo {

namespace {

constexpr int64_t kMostDims = 256;
constexpr int64_t kMostPieces = 2 * kKeyTile / kLanes;  // of a unit
constexpr int64_t kMostExpected = 4 << 20;              // bytes of a thread
constexpr int kQueries = 6;        // that share what is read of the keys and values
constexpr int64_t kDimBlocks = 4;  // of 16 dimensions, summed at a time
constexpr int kSums = 12;          // of scores, computed at a time
// Keys and values are asked for this long before they are read: blocks lie anywhere in memory, and
// two cores read 43 GB/s with 4 KB on the way, 64 with 16; more is little better.
constexpr int64_t kAheadBytes = 24576;
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

float to_float(float value) { return value; }
float to_float(Bf16 value) { return from_bf16(value); }

// The same of a whole head; what is not finite is looked at one by one.
template <class Element>
void stored(const Element* x, int64_t dims, Bf16* out) {
  const Acc least = broadcast(-kLargestStored);
  Acc differences = zero_acc();
  for (int64_t d = 0; d < dims; d += kLanes) {
    const Acc value = load_some(x + d, kLanes);
    differences = add(differences, subtract(value, value));
    const Acc negated = subtract(zero_acc(), maximum(value, least));
    store_bf16(out + d, subtract(zero_acc(), maximum(negated, least)));
  }
  if (!std::isnan(horizontal_sum(differences))) return;
  for (int64_t d = 0; d < dims; ++d) out[d] = stored(to_float(x[d]));
}

// The queries of `count` rows from `row` on, for one KV head and one key tile.
struct Unit {
  int64_t row, count, kv_head, tile;
};

struct Seen {
  int64_t begin, end;  // of the tile's keys
};

Seen seen_by(const Rows& rows, const Unit& unit) {
  const int64_t begin = span_of(rows, unit.row).begin - unit.tile * kKeyTile;
  const int64_t end = span_of(rows, unit.row + unit.count - 1).end - unit.tile * kKeyTile;
  return {std::clamp<int64_t>(begin, 0, kKeyTile), std::clamp<int64_t>(end, 0, kKeyTile)};
}

// Where the keys of 16 positions each lie, then where the values do; how many there are of both.
int64_t find_pieces(const Cache& cache, const Rows& rows, const Unit& unit, const Bf16** pieces) {
  const Seen seen = seen_by(rows, unit);
  const int64_t first = seen.begin / kLanes, count = (seen.end + kLanes - 1) / kLanes - first;
  const int64_t* table = rows.block_tables + rows.sequences[unit.row] * rows.table_width;
  for (int64_t group = 0; group < count; ++group) {
    const int64_t at = unit.tile * kKeyTile + (first + group) * kLanes;
    const int64_t block = unit.kv_head * cache.num_blocks + table[at / cache.block_tokens];
    const int64_t token = block * cache.block_tokens + at % cache.block_tokens;
    pieces[group] = cache.keys + token * cache.head_dim;
    pieces[count + group] = cache.values + token * cache.head_dim;
  }
  return count;
}

// Up to kQueries at once: neighbouring rows of one sequence see nearly the same keys.
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
        scratch_(scratch),
        distance_(std::max<int64_t>(1, kAheadBytes / (kLanes * cache.head_dim * sizeof(Bf16)))) {}

  // `next`: the unit after this one, whose keys are asked for towards the end; null: none.
  void run(const Unit& unit, const Unit* next) {
    kv_head_ = unit.kv_head;
    tile_ = unit.tile;
    num_groups_ = find_pieces(cache_, rows_, unit, pieces_);
    num_pieces_ = 2 * num_groups_;
    if (next) num_pieces_ += 2 * find_pieces(cache_, rows_, *next, pieces_ + num_pieces_);
    first_position_ = seen_by(rows_, unit).begin / kLanes * kLanes;
    const int64_t total = unit.count * heads_each_;
    for (int64_t first = 0; first < total; first += kQueries) {
      switch (std::min<int64_t>(kQueries, total - first)) {
        case 1: queries<1>(unit.row, first); break;
        case 2: queries<2>(unit.row, first); break;
        case 3: queries<3>(unit.row, first); break;
        case 4: queries<4>(unit.row, first); break;
        case 5: queries<5>(unit.row, first); break;
        default: queries<6>(unit.row, first); break;
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

  int64_t keys_at(int64_t position) const { return (position - first_position_) / kLanes; }
  int64_t values_at(int64_t position) const { return num_groups_ + keys_at(position); }

  // What to ask for while a piece is read.
  const Bf16* ahead_of(int64_t piece) const {
    return pieces_[std::min(piece + distance_, num_pieces_ - 1)];
  }

  // Sums that are added to side by side hide how long an addition takes.
  template <int count>
  void scores(int64_t begin, int64_t end) {
    constexpr int groups = std::max(1, kSums / count);
    int64_t position = begin;
    for (; position + (groups - 1) * kLanes < end; position += groups * kLanes)
      score_groups<count, groups>(position);
    for (; position < end; position += kLanes) score_groups<count, 1>(position);
  }

  // The scores of `groups` times 16 positions.
  template <int count, int groups>
  void score_groups(int64_t position) {
    const Bf16 *keys[groups], *next[groups];
    for (int g = 0; g < groups; ++g) {
      keys[g] = pieces_[keys_at(position) + g];
      next[g] = ahead_of(keys_at(position) + g);
    }
    Acc acc[count][groups];
    for (auto& query : acc)
      for (auto& sum : query) sum = zero_acc();
    const int64_t pairs = cache_.head_dim / 2;
    for (int64_t d = 0; d < pairs; ++d) {
      for (int g = 0; g < groups; ++g) __builtin_prefetch(next[g] + d * 2 * kLanes);
      for (int i = 0; i < count; ++i) {
        uint32_t pair;
        std::memcpy(&pair, query_ + i * kMostDims + 2 * d, sizeof pair);
        const PairBroadcast query = broadcast_pair(pair);
        for (int g = 0; g < groups; ++g)
          acc[i][g] = multiply_pairs(acc[i][g], keys[g] + d * 2 * kLanes, query);
      }
    }
    const Acc scale = broadcast(scale_);
    for (int i = 0; i < count; ++i)
      for (int g = 0; g < groups; ++g)
        store_acc(score_ + i * kKeyTile + position + g * kLanes, multiply(acc[i][g], scale));
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
      const Bf16* values = pieces_[values_at(group)] + dim * 2 * kLanes;
      const Bf16* next = ahead_of(values_at(group)) + dim * 2 * kLanes;
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

  const Cache& cache_;
  const Rows& rows_;
  const float* const queries_;
  const int64_t query_stride_, heads_each_, num_heads_;
  const float scale_;
  float* const scratch_;
  const int64_t distance_;  // in pieces
  int64_t kv_head_ = 0, tile_ = 0, first_position_ = 0;
  int64_t num_groups_ = 0, num_pieces_ = 0;
  const Bf16* pieces_[2 * kMostPieces];  // of this unit and of the next
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

// The units of a thread, in order.
template <class Function>
void for_units(const Rows& rows, int64_t num_kv_heads, int64_t heads_each, int thread,
               int num_threads, Function function) {
  int64_t unit = 0;
  for (int64_t row = 0; row < rows.num_rows;) {
    const int64_t count = rows_together(rows, row, heads_each);
    const Span first = span_of(rows, row), last = span_of(rows, row + count - 1);
    const int64_t end = last.first_tile + last.num_tiles;
    for (int64_t tile = first.first_tile; tile < end; ++tile)
      for (int64_t head = 0; head < num_kv_heads; ++head)
        if (unit++ % num_threads == thread) function(Unit{row, count, head, tile});
    row += count;
  }
}

}  // namespace

void write_kv(const Cache& cache, const Rows& rows, const float* keys, int64_t key_stride,
              const Bf16* values, int64_t value_stride, int thread, int num_threads) {
  const int64_t dims = cache.head_dim;
  alignas(64) Bf16 head_values[kMostDims];
  const Share share = share_of(rows.num_rows, thread, num_threads);
  for (int64_t row = share.begin; row < share.end; ++row) {
    const int64_t block = rows.slots[row] / cache.block_tokens;
    const int64_t offset = rows.slots[row] % cache.block_tokens;
    for (int64_t head = 0; head < cache.num_kv_heads; ++head) {
      const int64_t base = (head * cache.num_blocks + block) * cache.block_tokens * dims;
      stored(keys + row * key_stride + head * dims, dims, head_values);
      Bf16* to = cache.keys + base + offset / kLanes * kLanes * dims + offset % kLanes * 2;
      for (int64_t d = 0; d < dims; d += 2)
        std::memcpy(to + d * kLanes, head_values + d, 2 * sizeof(Bf16));
      stored(values + row * value_stride + head * dims, dims, head_values);
      to = cache.values + base + offset / 2 * 2 * dims + offset % 2;
      for (int64_t d = 0; d < dims; ++d) to[2 * d] = head_values[d];
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
  Unit pending{};
  for_units(rows, cache.num_kv_heads, num_heads / cache.num_kv_heads, thread, num_threads,
            [&](const Unit& unit) {
              if (pending.count > 0) work.run(pending, &unit);
              pending = unit;
            });
  if (pending.count > 0) work.run(pending, nullptr);
}

void expect_tiles(const Cache& cache, const Rows& rows, int64_t num_heads, int thread,
                  int num_threads, Later& later) {
  const Bf16* pieces[kMostPieces];
  later.clear(kLanes * cache.head_dim * int64_t(sizeof(Bf16)));
  for_units(rows, cache.num_kv_heads, num_heads / cache.num_kv_heads, thread, num_threads,
            [&](const Unit& unit) {
              if (later.num_bytes() >= kMostExpected) return;
              const int64_t count = find_pieces(cache, rows, unit, pieces);
              for (int64_t i = 0; i < 2 * count; ++i)
                later.add(reinterpret_cast<const char*>(pieces[i]) -
                          reinterpret_cast<const char*>(cache.keys));
            });
}

void merge_tiles(const Cache& cache, const Rows& rows, int64_t num_heads, const float* scratch,
                 Bf16* out, int thread, int num_threads) {
  const int64_t tiles_each = rows.tiles_each, floats = tile_floats(cache), dims = cache.head_dim;
  const Share share = share_of(rows.num_rows, thread, num_threads);
  for (int64_t row = share.begin; row < share.end; ++row) {
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
