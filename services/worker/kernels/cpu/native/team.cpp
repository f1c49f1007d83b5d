#include "team.h"

#include <time.h>

#include <algorithm>

#include <immintrin.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace octavo {

namespace {

// Between two operations of a step, a few microseconds; then others may have the core.
constexpr int kSpins = 3000;
// Between two steps, a few hundred microseconds; then the thread sleeps.
constexpr int kYields = 200;

// A run that waited less than this has lost nothing worth a change.
constexpr int64_t kLeastLost = 1'500'000;
constexpr int64_t kShortestAlone = 20'000'000, kLongestAlone = 250'000'000;

int64_t now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

void pause() { _mm_pause(); }

void sleep_while(std::atomic<uint32_t>& word, uint32_t value) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void wake_all(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, 1 << 30, nullptr, nullptr, 0);
}

void pin(pthread_t thread, int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  pthread_setaffinity_np(thread, sizeof set, &set);  // where it is not allowed, the system chooses
}

}  // namespace

Team::Team(int num_threads, const int* cores, int num_cores) : size_(num_threads) {
  for (int thread = 1; thread < size_; ++thread) {
    threads_.emplace_back(&Team::serve, this, thread);
    if (num_cores > 0) pin(threads_.back().native_handle(), cores[thread % num_cores]);
  }
  if (num_cores > 0) pin(pthread_self(), cores[0]);
}

Team::~Team() {
  stopping_ = true;
  epoch_.fetch_add(1, std::memory_order_seq_cst);
  wake_all(epoch_);
  for (auto& thread : threads_) thread.join();
}

void Team::run(void (*work)(void*, int, int), void* context) {
  const int64_t began = size_ > 1 ? now() : 0;
  if (size_ == 1 || began < alone_until_) {
    active_ = 1;
    work(context, 0, 1);
    return;
  }
  active_ = size_;
  waited_ = 0;
  work_ = work;
  context_ = context;
  epoch_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) != 0) wake_all(epoch_);
  work(context, 0, size_);
  barrier(0);
  judge(began, now());
}

// Whether the next runs are better done alone.
void Team::judge(int64_t began, int64_t ended) {
  if (waited_ > kLeastLost && 2 * waited_ > ended - began) {
    alone_for_ = std::clamp(2 * alone_for_, kShortestAlone, kLongestAlone);
    alone_until_ = ended + alone_for_;
  } else if (ended > alone_until_ + 2 * alone_for_) {
    alone_for_ = 0;
  }
}

void Team::barrier(int thread) {
  if (active_ == 1) return;
  uint32_t phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(size_)) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    return;
  }
  int64_t since = 0;
  for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins) {
    if (spins < kSpins) {
      pause();
      continue;
    }
    if (since == 0) since = now();
    sched_yield();
  }
  if (thread == 0 && since != 0) waited_ += now() - since;
}

void Team::serve(int thread) {
  uint32_t seen = 0;
  for (;;) {
    int spins = 0;
    while (epoch_.load(std::memory_order_acquire) == seen) {
      if (++spins < kSpins) {
        pause();
      } else if (spins < kSpins + kYields) {
        sched_yield();
      } else {
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        sleep_while(epoch_, seen);
        sleepers_.fetch_sub(1, std::memory_order_seq_cst);
      }
    }
    ++seen;
    if (stopping_) return;
    work_(context_, thread, size_);
    barrier(thread);
  }
}

}  // namespace octavo
