#include "argmax.h"

#include <algorithm>
#include <cmath>

#include "lanes.h"
#include "share.h"

namespace octavo {

namespace {

// The place of the largest value is looked for in this many alone.
constexpr int64_t kPart = 1024;

// The largest of x; `spoiled` becomes NaN where a value is not finite.
float largest(const float* x, int64_t count, float& spoiled) {
  Acc peaks = broadcast(-INFINITY), differences = zero_acc();
  int64_t at = 0;
  for (; at + kLanes <= count; at += kLanes) {
    const Acc values = load_acc(x + at);
    peaks = maximum(peaks, values);
    differences = add(differences, subtract(values, values));
  }
  float peak = horizontal_max(peaks);
  spoiled += horizontal_sum(differences);
  for (; at < count; ++at) {
    peak = std::max(peak, x[at]);
    spoiled += x[at] - x[at];
  }
  return peak;
}

int64_t argmax_of(const float* x, int64_t width) {
  float peak = -INFINITY, spoiled = 0.0f;
  int64_t place = 0;
  for (int64_t first = 0; first < width; first += kPart) {
    const float here = largest(x + first, std::min(kPart, width - first), spoiled);
    if (here > peak) {
      peak = here;
      place = first;
    }
  }
  if (std::isnan(spoiled)) return -1;
  while (x[place] != peak) ++place;
  return place;
}

}  // namespace

void argmax(const float* logits, int64_t num_rows, int64_t width, int64_t* ids, int thread,
            int num_threads) {
  const Share share = share_of(num_rows, thread, num_threads);
  for (int64_t row = share.begin; row < share.end; ++row)
    ids[row] = argmax_of(logits + row * width, width);
}

}  // namespace octavo
