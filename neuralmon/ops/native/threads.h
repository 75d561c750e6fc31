// Memory and threads of the functions that XLA calls.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace neuralmon {
namespace {

// Memory that a thread keeps: fresh pages are slower than the arithmetic. One piece for each type and number.
template <typename T, int kWhich>
T* kept(size_t size) {
  thread_local std::unique_ptr<T, void (*)(void*)> memory(nullptr, std::free);
  thread_local size_t capacity = 0;
  if (capacity < size) {
    capacity = (size + 1023) / 1024 * 1024;
    memory.reset(static_cast<T*>(std::aligned_alloc(64, capacity * sizeof(T))));
  }
  return memory.get();
}

// Calls work(0), ..., work(units - 1), on the pool's threads too. This thread waits for units that were begun only,
// never for a free thread: a pool full of waiting callers cannot lock itself up.
template <typename Work>
void in_parallel(xla::ffi::ThreadPool& pool, long units, double operations, const Work& work) {
  struct Shared {
    std::atomic<long> next{0}, done{0};
  };
  const long threads = operations < 2e6 ? 1 : std::min<long>(units, std::max<long>(1, pool.num_threads()));
  auto shared = std::make_shared<Shared>();
  const Work* borrowed = &work;  // alive while there are units
  auto run = [shared, units, borrowed] {
    for (long unit; (unit = shared->next.fetch_add(1)) < units;) {
      (*borrowed)(unit);
      shared->done.fetch_add(1, std::memory_order_release);
    }
  };
  for (long thread = 1; thread < threads; ++thread) pool.Schedule(decltype(run)(run));
  run();
  while (shared->done.load(std::memory_order_acquire) < units) std::this_thread::yield();
}

}  // namespace
}  // namespace neuralmon
