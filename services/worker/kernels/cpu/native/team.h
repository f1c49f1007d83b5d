// A persistent team of threads that run one function at a time, together.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace octavo {

// Threads that wait spin, then yield: spinning alone would cost a neighbour, or the very thread that
// is waited for, whole time slices.
class Team {
 public:
  // `cores` names the core of each thread, in turn; empty: the system chooses.
  Team(int num_threads, const int* cores, int num_cores);
  ~Team();

  int size() const { return size_; }

  // Runs `work(context, thread, size)` on every thread, the caller being thread 0.
  void run(void (*work)(void*, int, int), void* context);

  // All threads of `run` wait here for each other; called by each of them equally often.
  void barrier();

 private:
  void serve(int thread);

  const int size_;
  std::vector<std::thread> threads_;
  alignas(64) std::atomic<uint32_t> epoch_{0};
  alignas(64) std::atomic<uint32_t> sleepers_{0};
  alignas(64) std::atomic<uint32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
  void (*work_)(void*, int, int) = nullptr;
  void* context_ = nullptr;
  bool stopping_ = false;
};

}  // namespace octavo
