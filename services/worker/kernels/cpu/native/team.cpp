#include "team.h"

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
  if (size_ == 1) {
    work(context, 0, 1);
    return;
  }
  work_ = work;
  context_ = context;
  epoch_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) != 0) wake_all(epoch_);
  work(context, 0, size_);
  barrier();
}

void Team::barrier() {
  if (size_ == 1) return;
  uint32_t phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(size_)) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    return;
  }
  for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins) {
    if (spins < kSpins) {
      pause();
    } else {
      sched_yield();
    }
  }
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
    barrier();
  }
}

}  // namespace octavo
