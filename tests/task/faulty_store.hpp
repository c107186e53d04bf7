// A store as a process uses it that dies: after some steps, none is made any more.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <caller/task/store.hpp>

namespace caller::task {

class FaultyStore final : public Store {
public:
  explicit FaultyStore(std::shared_ptr<Store> store) : store_(std::move(store)) {}
  /// From now on.
  void fail_after(int steps) { left_ = steps; }
  bool failed() const { return failed_; }
  /// While it is so, values and data cannot be had.
  std::atomic<bool> away{false};
  /// While it is so, data only.
  std::atomic<bool> refuses_data{false};
  std::atomic<int> data_failed{0};  // how often it was so
  /// While it is so, ends cannot be told.
  std::atomic<bool> refuses_ends{false};
  std::atomic<int> ends_refused{0};
  /// While it is so, a RETRY is taken, and nobody hears of that.
  std::atomic<bool> loses_answers{false};
  /// While it is so, a purge does not end.
  std::atomic<bool> holds_purges{false};
  std::atomic<int> purges_held{0}, beats{0};
  /// While it is so, PAUSED does not arrive; let_go() lets those through that were held.
  std::atomic<bool> holds_paused{false};
  std::atomic<int> paused_held{0};
  void let_go() {
    holds_paused = false;
    std::vector<std::pair<Change, Pending<void>>> held;
    {
      const std::lock_guard lock(mutex_);
      held.swap(held_);
    }
    for (auto& [change, told] : held) {
      const Pending<void> made = store_->change(std::move(change));
      (void)made.wait_done();
      if (made.exception())
        told.set_exception(made.exception());
      else
        told.set_result();
    }
  }
  /// Waits for ends that have not ended themselves.
  std::size_t waits() {
    const std::lock_guard lock(mutex_);
    std::erase_if(waits_, [](const PendingBase& p) { return p.done(); });
    return waits_.size();
  }
  /// What happens before anybody knows of the calls that were added.
  std::function<void()> after_add;

  std::string description() const override { return store_->description(); }
  using Store::list;
  Pending<std::vector<Added>> add(std::vector<NewInvocation> calls) override {
    auto added = step<std::vector<Added>>([&] { return store_->add(std::move(calls)); });
    if (after_add && added.wait_done()) after_add();
    return added;
  }
  Pending<std::vector<InvocationRecord>> take(std::string runner, std::size_t most, std::vector<std::string> queues,
                                              bool begin) override {
    return step<std::vector<InvocationRecord>>(
        [&] { return store_->take(std::move(runner), most, std::move(queues), begin); });
  }
  Pending<void> change(Change c) override {
    if (refuses_ends && (is_final(c.to) || c.to == Status::retry)) {
      ++ends_refused;
      ends_refused.notify_all();
      return failure<void>("the store takes no ends");
    }
    if (loses_answers && c.to == Status::retry) {
      store_->change(std::move(c)).wait();
      return failure<void>("the store is away");
    }
    if (holds_paused && c.to == Status::paused) {
      const std::lock_guard lock(mutex_);
      const Pending<void> told;
      held_.emplace_back(std::move(c), told);
      ++paused_held;
      paused_held.notify_all();
      return told;
    }
    return step<void>([&] { return store_->change(std::move(c)); });
  }
  Pending<void> code_ended(std::string runner, std::string id) override {
    return step<void>([&] { return store_->code_ended(std::move(runner), std::move(id)); });
  }
  Pending<InvocationRecord> get(std::string id) override {
    return step<InvocationRecord>([&] { return store_->get(std::move(id)); });
  }
  Pending<std::vector<HistoryEntry>> history(std::string id) override {
    return step<std::vector<HistoryEntry>>([&] { return store_->history(std::move(id)); });
  }
  Pending<void> ended(std::string id) override {
    return wait(step<void>([&] { return store_->ended(std::move(id)); }));
  }
  Pending<InvocationRecord> final_record(std::string id) override {
    return wait(step<InvocationRecord>([&] { return store_->final_record(std::move(id)); }));
  }
  Pending<std::vector<InvocationRecord>> list(Selection s, std::size_t offset, std::size_t most) override {
    return step<std::vector<InvocationRecord>>([&] { return store_->list(std::move(s), offset, most); });
  }
  Pending<std::vector<std::pair<Status, std::size_t>>> counts() override {
    return step<std::vector<std::pair<Status, std::size_t>>>([&] { return store_->counts(); });
  }
  Pending<void> wait_for(std::string waiter, std::vector<std::string> ids) override {
    return step<void>([&] { return store_->wait_for(std::move(waiter), std::move(ids)); });
  }
  Pending<void> check_cycle(std::string parent, std::string task, std::string call) override {
    return step<void>([&] { return store_->check_cycle(std::move(parent), std::move(task), std::move(call)); });
  }
  Pending<bool> cancel(std::string id) override {
    return step<bool>([&] { return store_->cancel(std::move(id)); });
  }
  Pending<void> heartbeat(RunnerRecord runner, std::chrono::nanoseconds lease) override {
    ++beats;
    beats.notify_all();
    return step<void>([&] { return store_->heartbeat(std::move(runner), lease); });
  }
  Pending<void> forget_runner(std::string runner) override {
    return step<void>([&] { return store_->forget_runner(std::move(runner)); });
  }
  Pending<std::vector<RunnerRecord>> runners() override {
    return step<std::vector<RunnerRecord>>([&] { return store_->runners(); });
  }
  Pending<std::vector<std::string>> recover(std::chrono::nanoseconds most) override {
    return step<std::vector<std::string>>([&] { return store_->recover(most); });
  }
  Pending<std::size_t> purge(std::optional<std::chrono::nanoseconds> older, std::chrono::nanoseconds grace) override {
    if (holds_purges) {
      ++purges_held;
      purges_held.notify_all();
      return {};
    }
    return step<std::size_t>([&] { return store_->purge(older, grace); });
  }
  Pending<std::optional<std::string>> value(std::string key) override {
    if (away) return failure<std::optional<std::string>>("the store is away");
    return step<std::optional<std::string>>([&] { return store_->value(std::move(key)); });
  }
  Pending<bool> set_value(ValueChange c) override {
    return step<bool>([&] { return store_->set_value(std::move(c)); });
  }
  Pending<std::vector<std::pair<std::string, std::string>>> values(std::string prefix, std::string after,
                                                                   std::size_t most) override {
    return step<std::vector<std::pair<std::string, std::string>>>(
        [&] { return store_->values(std::move(prefix), std::move(after), most); });
  }
  Pending<void> put_data(std::string hash, std::string bytes) override {
    if (no_data()) return failure<void>("the store keeps nothing");
    return step<void>([&] { return store_->put_data(std::move(hash), std::move(bytes)); });
  }
  Pending<std::optional<std::string>> data(std::string hash) override {
    if (no_data()) return failure<std::optional<std::string>>("the store gives nothing");
    return step<std::optional<std::string>>([&] { return store_->data(std::move(hash)); });
  }
  std::shared_ptr<void> listen(std::string runner, Listener listener) override {
    return store_->listen(std::move(runner), std::move(listener));
  }

private:
  template <class T, class F>
  Pending<T> step(F f) {
    if (left_.fetch_sub(1) > 0) return f();
    failed_ = true;
    return failure<T>("the process is dead");
  }
  template <class T>
  static Pending<T> failure(const char* text) {
    Pending<T> p;
    p.set_exception(std::make_exception_ptr(StateBackendError(text)));
    return p;
  }
  template <class T>
  Pending<T> wait(Pending<T> p) {
    const std::lock_guard lock(mutex_);
    waits_.push_back(p);
    return p;
  }
  bool no_data() {
    if (!away && !refuses_data) return false;
    ++data_failed;
    data_failed.notify_all();
    return true;
  }
  std::shared_ptr<Store> store_;
  std::atomic<int> left_{1'000'000};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::vector<std::pair<Change, Pending<void>>> held_;
  std::vector<PendingBase> waits_;
};

}  // namespace caller::task
