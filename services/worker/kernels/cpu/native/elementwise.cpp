#include "elementwise.h"

#include <cmath>

#include "lanes.h"
#include "share.h"

namespace octavo {

namespace {

template <class Function>
void for_lanes(int64_t count, Function function) {
  int64_t at = 0;
  for (; at + kLanes <= count; at += kLanes) function(at, kLanes);
  if (at < count) function(at, count - at);
}

}  // namespace

namespace {

template <class Element>
void norm(const Element* x, const float* weight, float eps, int64_t width, Bf16* out) {
  Acc squares = zero_acc();
  for_lanes(width, [&](int64_t at, int64_t count) {
    Acc value = load_some(x + at, count);
    squares = scaled_add(squares, value, value);
  });
  const float mean = horizontal_sum(squares) / static_cast<float>(width);
  const Acc inverse = broadcast(1.0f / std::sqrt(mean + eps));
  for_lanes(width, [&](int64_t at, int64_t count) {
    Acc value = multiply(load_some(x + at, count), inverse);
    store_some(out + at, count, multiply(value, load_some(weight + at, count)));
  });
}

template <class Element>
void turn(const Element* x, const float* cos, const float* sin, int64_t head_dim, float* out) {
  const int64_t half = head_dim / 2;
  for_lanes(half, [&](int64_t at, int64_t count) {
    Acc first = load_some(x + at, count), second = load_some(x + half + at, count);
    for (int64_t part = 0; part < 2; ++part) {
      const int64_t to = part * half + at;
      Acc own = multiply(part == 0 ? first : second, load_some(cos + to, count));
      Acc other = multiply(part == 0 ? second : first, load_some(sin + to, count));
      store_some(out + to, count, add(own, other));
    }
  });
}

}  // namespace

void rms_norm(const float* x, const float* weight, float eps, int64_t num_rows, int64_t width,
              Bf16* out, int thread, int num_threads) {
  const Share share = share_of(num_rows, thread, num_threads);
  for (int64_t row = share.begin; row < share.end; ++row)
    norm(x + row * width, weight, eps, width, out + row * width);
}

void norm_heads(Bf16* x, int64_t x_stride, const float* weight, float eps, int64_t num_rows,
                int64_t num_heads, int64_t head_dim, int thread, int num_threads) {
  const Share share = share_of(num_rows, thread, num_threads);
  for (int64_t row = share.begin; row < share.end; ++row)
    for (int64_t head = 0; head < num_heads; ++head) {
      Bf16* at = x + row * x_stride + head * head_dim;
      norm(at, weight, eps, head_dim, at);
    }
}

void rotary(const void* x, bool x_is_f32, int64_t x_stride, const float* cos, const float* sin,
            int64_t num_rows, int64_t num_heads, int64_t head_dim, float* out, int thread,
            int num_threads) {
  const Share share = share_of(num_rows, thread, num_threads);
  for (int64_t row = share.begin; row < share.end; ++row)
    for (int64_t head = 0; head < num_heads; ++head) {
      const int64_t from = row * x_stride + head * head_dim;
      float* to = out + (row * num_heads + head) * head_dim;
      if (x_is_f32) {
        turn(static_cast<const float*>(x) + from, cos + row * head_dim, sin + row * head_dim,
             head_dim, to);
      } else {
        turn(static_cast<const Bf16*>(x) + from, cos + row * head_dim, sin + row * head_dim,
             head_dim, to);
      }
    }
}

void silu_mul(const Bf16* gate_up, int64_t num_rows, int64_t width, Bf16* out, int thread,
              int num_threads) {
  const Share share = share_of(num_rows, thread, num_threads);
  for (int64_t row = share.begin; row < share.end; ++row) {
    const Bf16* gate = gate_up + row * 2 * width;
    for_lanes(width, [&](int64_t at, int64_t count) {
      Acc product = multiply(silu(load_some(gate + at, count)), load_some(gate + width + at, count));
      store_some(out + row * width + at, count, product);
    });
  }
}

}  // namespace octavo
