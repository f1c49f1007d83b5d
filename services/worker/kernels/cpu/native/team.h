// A persistent team of threads that run one function at a time, together.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace octavo {

// Threads that wait spin, then yield: spinning alone would cost a neighbour, or the very thread that
// is waited for, whole time slices.
//
// Where others take the cores, a thread that has lost its own holds up all of them, for milliseconds at
// each meeting. A run that mostly waited is therefore followed by a while in which the caller works
// alone, longer each time; results do not depend on the number of threads.
class Team {
 public:
  // `cores` names the core of each thread, in turn; empty: the system chooses.
  Team(int num_threads, const int* cores, int num_cores);
  ~Team();

  int size() const { return size_; }

  // Runs `work(context, thread, size)` on each of `size` threads, the caller being thread 0.
  void run(void (*work)(void*, int, int), void* context);

  // All threads of a run wait here for each other; called by each of them equally often.
  void barrier(int thread);

 private:
  void serve(int thread);
  void judge(int64_t began, int64_t ended);

  const int size_;
  int active_ = 1;          // threads of the run under way
  int64_t waited_ = 0;      // of the caller, in that run: nanoseconds beyond its spins
  int64_t alone_until_ = 0;
  int64_t alone_for_ = 0;
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
