#include "workers.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

namespace splat {
namespace {

// One parallel_for.  Whoever draws an index below `count` owes its call, so the caller has to
// wait for indices that were drawn and not for threads that have yet to look.
struct Job {
  const std::function<void(int)>* body;  // lives as long as an index is owed
  int count;
  std::atomic<int> next{0};
  std::mutex mutex;
  std::condition_variable finished;
  int calls_left;
  std::exception_ptr error;

  Job(const std::function<void(int)>& function, int calls)
      : body(&function), count(calls), calls_left(calls) {}

  void work() {
    int calls = 0;
    for (int i = next++; i < count; i = next++, ++calls) {
      try {
        (*body)(i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!error) error = std::current_exception();
      }
    }
    if (calls) {
      const std::lock_guard<std::mutex> lock(mutex);
      calls_left -= calls;
      if (!calls_left) finished.notify_one();
    }
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex);
    finished.wait(lock, [&] { return calls_left == 0; });
  }
};

class Pool {
 public:
  void invite(const std::shared_ptr<Job>& job, int helpers) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (; threads_ < helpers; ++threads_) std::thread([this] { serve(); }).detach();
      for (int i = 0; i < helpers; ++i) invitations_.push_back(job);
    }
    for (int i = 0; i < helpers; ++i) invited_.notify_one();
  }

  // Takes back the invitations that nobody has looked at.
  void withdraw(const std::shared_ptr<Job>& job) {
    const std::lock_guard<std::mutex> lock(mutex_);
    invitations_.erase(std::remove(invitations_.begin(), invitations_.end(), job),
                       invitations_.end());
  }

 private:
  void serve() {
    for (;;) {
      std::shared_ptr<Job> job;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        invited_.wait(lock, [&] { return !invitations_.empty(); });
        job = std::move(invitations_.front());
        invitations_.pop_front();
      }
      job->work();
    }
  }

  std::mutex mutex_;
  std::condition_variable invited_;
  std::deque<std::shared_ptr<Job>> invitations_;
  int threads_ = 0;
};

// Never destroyed: its threads may outlive static objects when the process ends.
Pool& pool() {
  static Pool* const instance = new Pool;
  return *instance;
}

}  // namespace

void parallel_for(int count, int threads, const std::function<void(int)>& body) {
  const int helpers = std::min(threads, count) - 1;
  if (helpers < 1) {
    for (int i = 0; i < count; ++i) body(i);
    return;
  }
  const auto job = std::make_shared<Job>(body, count);
  pool().invite(job, helpers);
  job->work();
  pool().withdraw(job);
  job->wait();
  if (job->error) std::rethrow_exception(job->error);
}

int default_threads() { return std::max(1u, std::thread::hardware_concurrency()); }

}  // namespace splat
