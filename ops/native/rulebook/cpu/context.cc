// Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#include "rulebook/context.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

#include "rulebook/error.h"

namespace rulebook {
namespace {

constexpr int kMaxThreads = 1024;

// Of the tasks that threw, keeps the exception of the lowest one. Tasks below it are never skipped,
// so the error a caller sees does not depend on how the tasks fell on threads.
class FirstFailure {
 public:
  bool Skips(int64_t task) const { return task > lowest_.load(std::memory_order_relaxed); }

  void Record(int64_t task, std::exception_ptr exception) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (task < lowest_.load(std::memory_order_relaxed)) {
      lowest_.store(task, std::memory_order_relaxed);
      exception_ = std::move(exception);
    }
  }

  void Rethrow() const {
    if (exception_) std::rethrow_exception(exception_);
  }

 private:
  std::atomic<int64_t> lowest_{std::numeric_limits<int64_t>::max()};
  std::mutex mutex_;
  std::exception_ptr exception_;
};

// One ParallelFor in flight; lives on its caller's stack.
struct Job {
  Job(int64_t task_count, FunctionRef<void(int64_t)> task_ref)
      : tasks(task_count), task(task_ref) {}

  void Work() {
    for (;;) {
      const int64_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= tasks) return;
      task(i);
    }
  }

  const int64_t tasks;
  const FunctionRef<void(int64_t)> task;
  std::atomic<int64_t> next{0};
  int helpers = 0;  // pool threads inside Work(); guarded by the pool's mutex
  std::condition_variable idle;
};

class ThreadPool final : public CpuContext {
 public:
  explicit ThreadPool(int threads) {
    try {
      for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { Serve(); });
    } catch (...) {
      Stop();
      throw;
    }
  }

  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool() override { Stop(); }

 protected:
  void Run(int64_t tasks, FunctionRef<void(int64_t)> task) override {
    Job job(tasks, task);
    if (!workers_.empty()) {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        jobs_.push_back(&job);
      }
      const int64_t wanted = std::min(tasks - 1, static_cast<int64_t>(workers_.size()));
      for (int64_t i = 0; i < wanted; ++i) work_.notify_one();
    }
    job.Work();
    if (workers_.empty()) return;
    std::unique_lock<std::mutex> lock(mutex_);
    Withdraw(&job);
    job.idle.wait(lock, [&job] { return job.helpers == 0; });
  }

 private:
  void Serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      work_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      Job* job = jobs_.front();
      // The next free thread takes another caller's job, so that no caller waits for all the
      // others.
      jobs_.pop_front();
      jobs_.push_back(job);
      ++job->helpers;
      lock.unlock();
      job->Work();
      lock.lock();
      Withdraw(job);
      // The job may be gone as soon as the lock is released: notify while it is held.
      if (--job->helpers == 0) job->idle.notify_one();
    }
  }

  // A job whose tasks are all claimed needs no more helpers. Needs the lock.
  void Withdraw(Job* job) {
    const auto it = std::find(jobs_.begin(), jobs_.end(), job);
    if (it != jobs_.end()) jobs_.erase(it);
  }

  void Stop() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

  std::mutex mutex_;
  std::condition_variable work_;
  std::deque<Job*> jobs_;  // those with unclaimed tasks
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace

void CpuContext::ParallelFor(int64_t tasks, FunctionRef<void(int64_t)> task) {
  if (tasks <= 0) return;
  if (tasks == 1) {
    task(0);
    return;
  }
  FirstFailure failure;
  auto guarded = [&](int64_t i) {
    if (failure.Skips(i)) return;
    try {
      task(i);
    } catch (...) {
      failure.Record(i, std::current_exception());
    }
  };
  Run(tasks, guarded);
  failure.Rethrow();
}

std::unique_ptr<CpuContext> MakeThreadPool(int threads) {
  if (threads < 1 || threads > kMaxThreads) {
    ThrowInvalid("threads: ", threads, " is not in [1, ", kMaxThreads, "]");
  }
  return std::make_unique<ThreadPool>(threads);
}

}  // namespace rulebook
