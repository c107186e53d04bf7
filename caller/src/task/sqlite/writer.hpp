// The thread that writes. Internal to this folder.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <caller/pending.hpp>
#include <caller/task/sqlite.hpp>

#include "../awaiting.hpp"
#include "ledger.hpp"
#include "neighbours.hpp"

namespace caller::task::sqlite {

using detail::AwaitingById;

/// A step that waits to be written. run() may be called again after what it did was undone.
class Step {
public:
  virtual ~Step() = default;
  virtual void run(Ledger& ledger, News& news) = 0;
  virtual void finish(const std::exception_ptr& error) = 0;
  bool durable = false;  // on the disk when its Pending is done
  bool takes = false;    // has nothing to do when nothing waits
  std::exception_ptr error;
};
using StepPtr = std::unique_ptr<Step>;

template <class T, class F>
class StepOf final : public Step {
public:
  StepOf(F f, Pending<T> pending) : f_(std::move(f)), pending_(std::move(pending)) {}
  void run(Ledger& ledger, News& news) override {
    if constexpr (std::is_void_v<T>)
      f_(ledger, news);
    else
      value_ = f_(ledger, news);
  }
  void finish(const std::exception_ptr& e) override {
    if (e)
      pending_.set_exception(e);
    else if constexpr (std::is_void_v<T>)
      pending_.set_result();
    else
      pending_.set_result(std::move(value_));
  }

private:
  F f_;
  Pending<T> pending_;
  std::conditional_t<std::is_void_v<T>, char, T> value_{};
};

/// Owns the connection that writes. What arrives while it writes is written next, in one transaction; Pendings are
/// completed, listeners told and the other processes woken when that stands. What is to be on the disk then waits for
/// another thread, which flushes for all transactions since the last time at once.
class Writer : public std::enable_shared_from_this<Writer> {
public:
  Writer(std::string path, SqliteOptions options);
  ~Writer();
  void start();
  /// What was submitted is still written.
  void stop();

  template <class T, class F>
  Pending<T> submit(F f, bool durable, bool takes = false, bool now_if_here = true) {
    Pending<T> pending;
    auto step = std::make_unique<StepOf<T, F>>(std::move(f), pending);
    step->durable = durable;
    step->takes = takes;
    put(std::move(step), now_if_here);
    return pending;
  }

  /// As Store::ended() and final_record().
  template <class T>
  Pending<T> wait_for_end(const std::string& id);
  std::shared_ptr<void> listen(std::string runner, Listener listener);

  /// Reads are made in the calling thread.
  template <class T, class F>
  Pending<T> read(F f) {
    Pending<T> pending;
    try {
      std::unique_lock lock(read_mutex_);
      if constexpr (std::is_void_v<T>) {
        f(*reader_);
        lock.unlock();
        pending.set_result();
      } else {
        T value = f(*reader_);
        lock.unlock();
        pending.set_result(std::move(value));
      }
    } catch (...) {
      pending.set_exception(std::current_exception());
    }
    return pending;
  }

  const std::string& path() const noexcept { return path_; }
  /// Looks at what others did, as if they had told.
  void look_soon();

private:
  void put(StepPtr step, bool now_if_here);
  void loop();
  void write(std::vector<StepPtr>& steps, bool flush_here);
  void flush_later(std::vector<StepPtr>& steps, std::vector<std::string> ended);
  void flush_loop();
  std::exception_ptr flush() noexcept;
  void finish_flushed();
  bool attempt(const std::vector<Step*>& steps, bool alone, News& news);
  void tell(const News& news);
  void look();
  void tell_values(const News& news, bool any, std::vector<std::function<void()>>& calls);
  void set_timer();
  void complete(const std::vector<std::string>& ids);
  void fail_waiting();
  void wake() noexcept;

  std::string path_;
  SqliteOptions options_;
  std::unique_ptr<Neighbours> neighbours_;
  std::unique_ptr<Database> db_, reader_;
  std::unique_ptr<Ledger> ledger_;
  Fd event_, timer_;
  std::thread thread_;

  /// What stands, and is not on the disk yet.
  struct Committed {
    std::vector<StepPtr> steps;
    std::vector<std::string> ended;  // ids
    std::exception_ptr error;
  };
  std::thread flusher_;  // so that the next transaction need not wait for the disk
  std::mutex flush_mutex_;
  std::condition_variable flush_changed_;
  std::vector<Committed> to_flush_, flushed_;
  bool flush_ends_ = false;
  std::mutex log_mutex_;
  Fd log_;  // the database's

  std::mutex read_mutex_;  // of reader_

  std::mutex mutex_;  // of what follows
  std::vector<StepPtr> waiting_;
  bool asleep_ = false, stopping_ = false, look_ = false;
  std::size_t unflushed_ = 0;  // batches
  AwaitingById ends_;
  std::map<std::uint64_t, std::pair<std::string, Listener>> listeners_;
  std::uint64_t last_token_ = 0;

  // Of the thread:
  std::int64_t seen_ended_ = 0, seen_purges_ = 0, seen_values_ = 0;
  std::unordered_set<std::string> told_cancels_;
  std::unordered_set<std::int64_t> told_values_;  // behind seen_values_, by ourselves
  bool full_sync_ = false;
};

}  // namespace caller::task::sqlite
