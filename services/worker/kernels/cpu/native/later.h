// Memory that a later operation reads, in pieces that lie anywhere. Products of many rows leave the
// memory idle: they ask for it meanwhile.
#pragma once

#include <cstdint>
#include <vector>

namespace octavo {

constexpr int64_t kAheadBytes = 128;  // asked for at a time

class Later {
 public:
  // Forgets all pieces; those to come are of this size, a multiple of kAheadBytes.
  void clear(int64_t piece_bytes) {
    offsets_.clear();
    piece_bytes_ = piece_bytes;
    restart(nullptr);
  }

  void add(int64_t offset) { offsets_.push_back(offset); }

  int64_t num_bytes() const { return static_cast<int64_t>(offsets_.size()) * piece_bytes_; }

  // The same pieces of other memory.
  void restart(const void* base) {
    base_ = static_cast<const char*>(base);
    next_ = 0;
    at_ = end_ = nullptr;
  }

  // Asks for some more, if there is any.
  void next() {
    if (at_ == end_) {
      if (next_ == offsets_.size()) return;
      at_ = base_ + offsets_[next_++];
      end_ = at_ + piece_bytes_;
    }
    __builtin_prefetch(at_, 0, 2);
    __builtin_prefetch(at_ + 64, 0, 2);
    at_ += kAheadBytes;
  }

 private:
  std::vector<int64_t> offsets_;  // bytes
  int64_t piece_bytes_ = 0;
  const char* base_ = nullptr;
  size_t next_ = 0;
  const char *at_ = nullptr, *end_ = nullptr;
};

}  // namespace octavo
