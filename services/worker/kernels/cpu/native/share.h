// What one thread of a team does: neighbouring rows, so that no two threads write to one cache line
// but at the borders.
#pragma once

#include <cstdint>

namespace octavo {

struct Share {
  int64_t begin, end;
};

inline Share share_of(int64_t count, int thread, int num_threads) {
  return {count * thread / num_threads, count * (thread + 1) / num_threads};
}

}  // namespace octavo
