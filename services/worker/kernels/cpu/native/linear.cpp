#include "linear.h"

#include <algorithm>
#include <vector>

#include "lanes.h"
#include "share.h"

namespace octavo {

namespace {

constexpr int64_t kGroup = 64;       // weights of a group: 16 channels x 4 inputs
// Decoded at a time for many rows: they stay in the nearest cache.
constexpr int64_t kChunkGroups = 36864 / (kPanelBlocks * int64_t(sizeof(Four)));
// How long weights are asked for before they are read: with 3 KB on the way, two cores wait for memory
// (gate and up of the default model, one row: 0.80 ms for all layers against 0.55).
constexpr int64_t kPrefetchBytes = 16384;
// With more, products take long enough for the processor's own prefetching (3 % faster than ours).
constexpr int64_t kMostRowsAhead = 64;
constexpr int64_t kFewRows = 8;  // up to here weights are decoded in registers

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Asks for the group that lies `bytes` after this one.
template <class Element>
inline void prefetch_after(const Element* group, int64_t bytes) {
  const char* at = reinterpret_cast<const char*>(group) + bytes;
  for (int64_t line = 0; line < kGroup * int64_t(sizeof(Element)); line += 64)
    __builtin_prefetch(at + line);
}

// How a matrix is cut into panels.
struct Panels {
  bool halves;
  int64_t half_outputs;   // outputs, or those of one half
  int64_t half_blocks;    // blocks of that
  int64_t blocks_each;    // of one half, in a whole panel

  Panels(int64_t outputs, int32_t epilogue)
      : halves(epilogue == kSiluMul),
        half_outputs(halves ? outputs / 2 : outputs),
        half_blocks(ceil_div(half_outputs, kBlockChannels)),
        blocks_each(halves ? kHalfBlocks : kPanelBlocks) {}

  int64_t count() const { return ceil_div(half_blocks, blocks_each); }
  int64_t blocks() const { return half_blocks * (halves ? 2 : 1); }
  int64_t first_block(int64_t panel) const { return panel * kPanelBlocks; }
  int64_t blocks_of(int64_t panel) const {
    return std::min(blocks_each, half_blocks - panel * blocks_each) * (halves ? 2 : 1);
  }

  // The block, counted through all panels, and the channel in it that holds an output.
  void find(int64_t output, int64_t* panel, int64_t* block, int64_t* channel) const {
    int64_t half = output / half_outputs, index = output % half_outputs;
    *channel = index % kBlockChannels;
    *panel = index / kBlockChannels / blocks_each;
    int64_t each = blocks_of(*panel) / (halves ? 2 : 1);
    *block = half * each + index / kBlockChannels % blocks_each;
  }
};

template <int32_t kind>
struct Weights;

template <>
struct Weights<kE4m3> {
  using Element = uint8_t;
  Decoder decoder;
  Fp8Four four(const uint8_t* group) const { return decoder.decode(group); }
};

template <>
struct Weights<kBf16> {
  using Element = Bf16;
  Bf16Four four(const Bf16* group) const { return load_bf16(group); }
};

// All inputs of a group, in their order.
template <int step, class AnyFour>
inline __attribute__((always_inline)) Acc multiply_all(Acc acc, const AnyFour& four, const Input* x) {
  acc = multiply_step<step>(acc, four, broadcast_input(x[step]));
  if constexpr (step + 1 < kInputs) {
    return multiply_all<step + 1>(acc, four, x);
  } else {
    return acc;
  }
}

// `blocks` consecutive blocks of a panel, of which each row of groups has `stride` elements.
template <int32_t kind, int rows, int blocks>
inline void multiply_packed(const typename Weights<kind>::Element* groups, int64_t stride,
                            int64_t num_groups, const Input* x, int64_t x_stride, Acc* sums) {
  Weights<kind> weights;
  Acc acc[rows][blocks];
  for (int row = 0; row < rows; ++row)
    for (int block = 0; block < blocks; ++block) acc[row][block] = sums[row * blocks + block];
  for (int64_t k = 0; k < num_groups; ++k) {
    for (int block = 0; block < blocks; ++block) {
      const auto* group = groups + k * stride + block * kGroup;
      prefetch_after(group, kPrefetchBytes);
      const auto four = weights.four(group);
      for (int row = 0; row < rows; ++row)
        acc[row][block] = multiply_all<0>(acc[row][block], four, x + row * x_stride + k * kInputs);
    }
  }
  for (int row = 0; row < rows; ++row)
    for (int block = 0; block < blocks; ++block) sums[row * blocks + block] = acc[row][block];
}

// One Input of each row at a time, held in registers for all blocks.
template <int rows, int blocks, int step>
inline __attribute__((always_inline)) void multiply_steps(const Four* fours, const Input* x,
                                                          int64_t x_stride,
                                                          Acc (&acc)[rows][blocks]) {
  Broadcast inputs[rows];
  for (int row = 0; row < rows; ++row) inputs[row] = broadcast_input(x[row * x_stride + step]);
  for (int block = 0; block < blocks; ++block)
    for (int row = 0; row < rows; ++row)
      acc[row][block] = multiply_step<step>(acc[row][block], fours[block], inputs[row]);
  if constexpr (step + 1 < kInputs) multiply_steps<rows, blocks, step + 1>(fours, x, x_stride, acc);
}

// The weights that are decoded next: `next` asks for some of them, and of what is read later.
struct Ahead {
  const char *at, *end;
  Later* later;

  void next() {
    if (later) later->next();
    if (at >= end) return;
    for (int64_t line = 0; line < kAheadBytes; line += 64) __builtin_prefetch(at + line, 0, 2);
    at += kAheadBytes;
  }
};

// The same with weights that were decoded before, [num_groups][panel blocks]. They are in the
// nearest cache: memory is free to bring what is decoded next.
template <bool asks, int rows, int blocks, int panel_blocks>
inline void multiply_decoded(const Four* fours, int64_t num_groups, const Input* x,
                             int64_t x_stride, float* sums, bool first, Ahead& ahead) {
  constexpr int64_t sums_stride = panel_blocks * kBlockChannels;
  Acc acc[rows][blocks];
  for (int row = 0; row < rows; ++row)
    for (int block = 0; block < blocks; ++block)
      acc[row][block] =
          first ? zero_acc() : load_acc(sums + row * sums_stride + block * kBlockChannels);
  for (int64_t k = 0; k < num_groups; ++k) {
    if constexpr (asks) ahead.next();
    multiply_steps<rows, blocks, 0>(fours + k * panel_blocks, x + k * kInputs, x_stride, acc);
  }
  for (int row = 0; row < rows; ++row)
    for (int block = 0; block < blocks; ++block)
      store_acc(sums + row * sums_stride + block * kBlockChannels, acc[row][block]);
}

// One matrix, one thread: walks its panels.
template <int32_t kind>
class Walk {
 public:
  using Element = typename Weights<kind>::Element;

  Walk(const Matrix& matrix, const Bf16* x, int64_t num_rows, void* out, Later* later)
      : matrix_(matrix),
        panels_(matrix.outputs, matrix.epilogue),
        groups_(ceil_div(matrix.inputs, 4)),
        x_(reinterpret_cast<const Input*>(x)),
        x_stride_(groups_ * kInputs),
        num_rows_(num_rows),
        out_(out),
        later_(later),
        end_(static_cast<const char*>(matrix.packed) +
             packed_bytes(matrix.outputs, matrix.inputs, matrix.weight_kind, matrix.epilogue)) {}

  void panel(int64_t panel) {
    panel_ = panel;
    first_block_ = panels_.first_block(panel);
    packed_ = static_cast<const Element*>(matrix_.packed) + first_block_ * groups_ * kGroup;
    switch (panels_.blocks_of(panel)) {
      case 1: return rows<1>();
      case 2: return rows<2>();
      case 3: return rows<3>();
      case 4: return rows<4>();
      case 5: return rows<5>();
      default: return rows<6>();
    }
  }

 private:
  int64_t segment_groups() const {
    return matrix_.block_scales ? matrix_.block_inputs / 4 : groups_;
  }

  template <int blocks>
  void rows() {
    switch (num_rows_) {
      case 1: return few_rows<1, blocks>();
      case 2: return few_rows<2, blocks>();
      case 3: return few_rows<3, blocks>();
      case 4: return few_rows<4, blocks>();
      case 5: return few_rows<5, blocks>();
      case 6: return few_rows<6, blocks>();
      case 7: return few_rows<7, blocks>();
      case 8: return few_rows<8, blocks>();
      default: return many_rows<blocks>();
    }
  }

  // Weights are decoded in registers, as many blocks at a time as have room for their sums.
  template <int count, int blocks>
  void few_rows() {
    constexpr int width = std::max(1, std::min(blocks, kAccs / count));
    Acc sums[count * blocks];
    parts<count, blocks, width, 0>(sums);
    for (int row = 0; row < count; ++row) finish<blocks>(row, sums + row * blocks);
  }

  template <int count, int blocks, int width, int block>
  void parts(Acc* sums) {
    if constexpr (block < blocks) {
      part<count, blocks, std::min(width, blocks - block)>(block, sums);
      parts<count, blocks, width, block + width>(sums);
    }
  }

  // The sums of `width` blocks from `block` on, into sums[count][blocks].
  template <int count, int blocks, int width>
  void part(int block, Acc* sums) {
    Acc here[count * width], total[count * width];
    for (auto& acc : total) acc = zero_acc();
    for (auto& acc : here) acc = zero_acc();
    const int64_t step = segment_groups();
    for (int64_t group = 0; group < groups_; group += step) {
      int64_t count_groups = std::min(step, groups_ - group);
      multiply_packed<kind, count, width>(
          packed_ + (group * blocks + block) * kGroup, blocks * kGroup, count_groups,
          x_ + group * kInputs, x_stride_, here);
      if (matrix_.block_scales) {
        for (int b = 0; b < width; ++b) {
          Acc scale = broadcast(block_scale(group / step, block + b));
          for (int row = 0; row < count; ++row) {
            total[row * width + b] = scaled_add(total[row * width + b], here[row * width + b], scale);
            here[row * width + b] = zero_acc();
          }
        }
      }
    }
    const Acc* result = matrix_.block_scales ? total : here;
    for (int row = 0; row < count; ++row)
      for (int b = 0; b < width; ++b) sums[row * blocks + block + b] = result[row * width + b];
  }

  template <int blocks>
  void many_rows() {
    alignas(64) static thread_local Four fours[kChunkGroups * kPanelBlocks];
    static thread_local std::vector<float> sums_memory;
    constexpr int64_t width = blocks * kBlockChannels;
    const bool scaled = matrix_.block_scales != nullptr;
    sums_memory.resize(static_cast<size_t>(num_rows_ * width * (scaled ? 2 : 1)));
    float* sums = sums_memory.data();
    float* totals = scaled ? sums + num_rows_ * width : nullptr;
    if (scaled) std::fill(totals, totals + num_rows_ * width, 0.0f);
    const int64_t segment = segment_groups();
    Weights<kind> weights;
    for (int64_t begin = 0; begin < groups_; begin += segment) {
      const int64_t end = std::min(groups_, begin + segment);
      for (int64_t group = begin; group < end; group += kChunkGroups) {
        const int64_t count = std::min(kChunkGroups, end - group);
        const Element* from = packed_ + group * blocks * kGroup;
        for (int64_t i = 0; i < count * blocks; ++i) {
          prefetch_after(from + i * kGroup, 8192);
          fours[i] = expand(weights.four(from + i * kGroup));
        }
        const char* next = reinterpret_cast<const char*>(from + count * blocks * kGroup);
        Ahead ahead{next, std::min(next + count * blocks * kGroup * int64_t(sizeof(Element)), end_), later_};
        if (num_rows_ <= kMostRowsAhead) {
          tiles<true, blocks>(fours, group, count, sums, group == begin, ahead);
        } else {
          tiles<false, blocks>(fours, group, count, sums, group == begin, ahead);
        }
      }
      if (scaled) add_segment<blocks>(begin / segment, sums, totals);
    }
    const float* result = scaled ? totals : sums;
    for (int64_t row = 0; row < num_rows_; ++row) {
      Acc accs[blocks];
      for (int block = 0; block < blocks; ++block)
        accs[block] = load_acc(result + row * width + block * kBlockChannels);
      finish<blocks>(row, accs);
    }
  }

  template <bool asks, int blocks>
  void tiles(const Four* fours, int64_t group, int64_t count, float* sums, bool first,
             Ahead& ahead) {
    constexpr int64_t width = blocks * kBlockChannels;
    const Input* x = x_ + group * kInputs;
    int64_t row = 0;
    for (; row + kTileRows <= num_rows_; row += kTileRows)
      tile<asks, kTileRows, blocks, 0>(fours, count, x + row * x_stride_, sums + row * width, first,
                                 ahead);
    for (; row < num_rows_; ++row)
      tile<asks, 1, blocks, 0>(fours, count, x + row * x_stride_, sums + row * width, first,
                                 ahead);
  }

  template <bool asks, int rows, int blocks, int block>
  void tile(const Four* fours, int64_t count, const Input* x, float* sums, bool first,
            Ahead& ahead) {
    if constexpr (block < blocks) {
      constexpr int some = std::min(kTileBlocks, blocks - block);
      multiply_decoded<asks, rows, some, blocks>(fours + block, count, x, x_stride_,
                                           sums + block * kBlockChannels, first, ahead);
      tile<asks, rows, blocks, block + some>(fours, count, x, sums, first, ahead);
    }
  }

  template <int blocks>
  void add_segment(int64_t segment, const float* sums, float* totals) {
    for (int64_t row = 0; row < num_rows_; ++row)
      for (int block = 0; block < blocks; ++block) {
        int64_t at = (row * blocks + block) * kBlockChannels;
        Acc scale = broadcast(block_scale(segment, block));
        store_acc(totals + at, scaled_add(load_acc(totals + at), load_acc(sums + at), scale));
      }
  }

  float block_scale(int64_t segment, int64_t block) const {
    return matrix_.block_scales[segment * panels_.blocks() + first_block_ + block];
  }

  template <int blocks>
  void finish(int64_t row, Acc* sums) {
    for (int block = 0; block < blocks; ++block) {
      const int64_t at = (first_block_ + block) * kBlockChannels;
      if (matrix_.scales) sums[block] = multiply(sums[block], load_acc(matrix_.scales + at));
      if (matrix_.bias) sums[block] = add(sums[block], load_acc(matrix_.bias + at));
    }
    if (matrix_.epilogue == kSiluMul) {
      constexpr int half = blocks / 2;
      for (int block = 0; block < half; ++block) {
        Acc product = multiply(silu(sums[block]), sums[half + block]);
        int64_t output = (panel_ * kHalfBlocks + block) * kBlockChannels;
        Bf16* to = static_cast<Bf16*>(out_) + row * panels_.half_outputs + output;
        store_some(to, panels_.half_outputs - output, product);
      }
      return;
    }
    for (int block = 0; block < blocks; ++block) {
      const int64_t output = (first_block_ + block) * kBlockChannels;
      const int64_t at = row * matrix_.outputs + output, count = matrix_.outputs - output;
      if (matrix_.epilogue == kStoreBf16) {
        store_some(static_cast<Bf16*>(out_) + at, count, sums[block]);
        continue;
      }
      float* to = static_cast<float*>(out_) + at;
      const bool adds = matrix_.epilogue == kAddF32;
      store_some(to, count, adds ? add(load_some(to, count), sums[block]) : sums[block]);
    }
  }

  const Matrix& matrix_;
  const Panels panels_;
  const int64_t groups_;
  const Input* const x_;
  const int64_t x_stride_;
  const int64_t num_rows_;
  void* const out_;
  Later* const later_;
  const char* const end_;  // of the packed matrix
  int64_t panel_ = 0, first_block_ = 0;
  const Element* packed_ = nullptr;
};

template <int32_t kind>
void walk(const Matrix& matrix, const Bf16* x, int64_t num_rows, void* out, int thread,
          int num_threads, Later* later) {
  Walk<kind> walk(matrix, x, num_rows, out, later);
  const int64_t num_panels = Panels(matrix.outputs, matrix.epilogue).count();
  const Share share = share_of(num_panels, thread, num_threads);
  for (int64_t panel = share.begin; panel < share.end; ++panel) walk.panel(panel);
}

}  // namespace

bool asks_for_later(int64_t num_rows) { return num_rows > kFewRows && num_rows <= kMostRowsAhead; }

int64_t packed_blocks(int64_t outputs, int32_t epilogue) {
  return Panels(outputs, epilogue).blocks();
}

int64_t packed_bytes(int64_t outputs, int64_t inputs, int32_t weight_kind, int32_t epilogue) {
  int64_t groups = packed_blocks(outputs, epilogue) * ceil_div(inputs, 4);
  return groups * kGroup * (weight_kind == kE4m3 ? 1 : 2);
}

void pack_rows(void* packed, const void* rows, int64_t first_row, int64_t count, int64_t outputs,
               int64_t inputs, int32_t weight_kind, int32_t epilogue) {
  Panels panels(outputs, epilogue);
  const int64_t groups = ceil_div(inputs, 4);
  for (int64_t row = 0; row < count; ++row) {
    int64_t panel, block, channel;
    panels.find(first_row + row, &panel, &block, &channel);
    int64_t stride = panels.blocks_of(panel) * kGroup;
    int64_t base = panels.first_block(panel) * groups * kGroup + block * kGroup;
    for (int64_t k = 0; k < inputs; ++k) {
      int64_t at = base + (k / 4) * stride;
      if (weight_kind == kE4m3) {
        static_cast<uint8_t*>(packed)[at + channel_offset(int(channel), int(k % 4))] =
            static_cast<const uint8_t*>(rows)[row * inputs + k];
      } else {
        static_cast<Bf16*>(packed)[at + bf16_offset(int(channel), int(k % 4))] =
            static_cast<const Bf16*>(rows)[row * inputs + k];
      }
    }
  }
}

void pack_channels(float* packed, const float* values, int64_t outputs, int32_t epilogue) {
  Panels panels(outputs, epilogue);
  std::fill(packed, packed + panels.blocks() * kBlockChannels, 0.0f);
  for (int64_t output = 0; output < outputs; ++output) {
    int64_t panel, block, channel;
    panels.find(output, &panel, &block, &channel);
    packed[(panels.first_block(panel) + block) * kBlockChannels + channel] = values[output];
  }
}

void linear(const Matrix& matrix, const Bf16* x, int64_t num_rows, void* out, int thread,
            int num_threads, Later* later) {
  if (matrix.weight_kind == kE4m3) {
    walk<kE4m3>(matrix, x, num_rows, out, thread, num_threads, later);
  } else {
    walk<kBf16>(matrix, x, num_rows, out, thread, num_threads, later);
  }
}

}  // namespace octavo
