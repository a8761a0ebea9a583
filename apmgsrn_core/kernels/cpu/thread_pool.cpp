#include "thread_pool.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace apm {
namespace {

constexpr int SPINS = 2000;  // about 20 microseconds: the next pass often follows at once

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

class Pool {
 public:
  void run(int count, int threads, const std::function<void(int, int)>& work) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      wanted_ = hire(threads - 1);
      work_ = &work;
      count_ = count;
      next_ = 0;
      open_ = true;
      ++round_;
    }
    wake_.notify_all();
    take_items(0);
    for (int spin = 0; active_ && spin < SPINS; ++spin) pause_briefly();
    // A helper that has not come by now, its core being taken, is not waited for.
    std::unique_lock<std::mutex> lock(mutex_);
    open_ = false;
    done_.wait(lock, [&] { return active_ == 0; });
  }

  std::mutex in_use;

 private:
  // Make sure that so many helpers exist; returns how many there are. Where the system gives no more, fewer will do.
  int hire(int wanted) {
    while (hired_ < wanted) {
      try {
        std::thread([this, number = hired_ + 1, seen = round_.load()] { serve(number, seen); }).detach();
      } catch (const std::system_error&) {
        return hired_;
      }
      ++hired_;
    }
    return wanted;
  }

  void serve(int number, unsigned seen) {
    for (;;) {
      for (int spin = 0; round_ == seen && spin < SPINS; ++spin) pause_briefly();
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return round_ != seen; });
        seen = round_;
        if (number > wanted_ || !open_) continue;
        ++active_;
      }
      take_items(number);
      const std::lock_guard<std::mutex> lock(mutex_);
      if (--active_ == 0) done_.notify_one();
    }
  }

  void take_items(int thread) {
    for (int item; (item = next_.fetch_add(1)) < count_;) (*work_)(item, thread);
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<unsigned> round_{0};
  std::atomic<int> next_{0}, active_{0};
  const std::function<void(int, int)>* work_ = nullptr;
  int count_ = 0, hired_ = 0, wanted_ = 0;
  bool open_ = false;
};

// Never destroyed: its threads may still wait when the program ends. A forked child starts with a new one.
Pool* pool = new Pool;
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });

}  // namespace

void parallel(int count, int threads, const std::function<void(int, int)>& work) {
  if (threads > count) threads = count;
  std::unique_lock<std::mutex> turn(pool->in_use, std::defer_lock);
  if (threads > 1 && turn.try_lock()) {
    pool->run(count, threads, work);
    return;
  }
  for (int item = 0; item < count; ++item) work(item, 0);
}

}  // namespace apm
