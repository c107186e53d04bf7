// The store of a runner as its workers see it: every operation is a request to the runner's process.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "wire.hpp"

namespace caller::task::detail {

/// Thread-safety: any thread.
class RemoteStore final : public Store, public std::enable_shared_from_this<RemoteStore> {
  template <class>
  struct Operation;
  template <class R, class... A>
  struct Operation<Pending<R> (Store::*)(A...)> {
    using Result = R;
  };

  template <auto F, class... A>
  auto ask(const A&... arguments) {
    using R = typename Operation<decltype(F)>::Result;
    Pending<R> answer;
    Packer frame(Frame::request);
    std::uint64_t number;
    {
      const std::lock_guard lock(mutex_);
      number = ++last_;
      frame.put(number);
      waiting_.emplace(number, [answer](bool succeeded, Unpacker& value) {
        if (!succeeded) {
          answer.set_exception(ExceptionRecord::from_json(value.get<std::string>()).exception());
        } else if constexpr (std::is_void_v<R>) {
          answer.set_result();
        } else {
          answer.set_result(value.get<R>());
        }
      });
    }
    static_assert(StoreOperations::number<F>() < StoreOperations::size, "an operation is missing in StoreOperations");
    frame.put(StoreOperations::number<F>());
    (frame.put(arguments), ...);
    send_(frame.take());
    if constexpr (StoreOperations::is_wait<F>())
      (void)answer.add_done_callback([weak = weak_from_this(), number](const PendingBase& p) {
        const auto self = p.cancelled() ? weak.lock() : nullptr;
        if (self) self->forget(number);
      });
    return answer;
  }
  void forget(std::uint64_t number);

public:
  /// `send` takes a whole frame, in any thread.
  explicit RemoteStore(std::function<void(std::string)> send) : send_(std::move(send)) {}

  /// A reply, or news of a listener. Errors: SerializationError.
  void receive(Frame kind, Unpacker frame);

  std::string description() const override { return "of the runner"; }
  Pending<std::vector<Added>> add(std::vector<NewInvocation> calls) override { return ask<&Store::add>(calls); }
  Pending<std::vector<InvocationRecord>> take(std::string runner, std::size_t most, std::vector<std::string> queues,
                                              bool begin) override {
    return ask<&Store::take>(runner, most, queues, begin);
  }
  Pending<void> change(Change change) override { return ask<&Store::change>(change); }
  Pending<void> code_ended(std::string runner, std::string id) override { return ask<&Store::code_ended>(runner, id); }
  Pending<InvocationRecord> get(std::string id) override { return ask<&Store::get>(id); }
  Pending<std::vector<HistoryEntry>> history(std::string id) override { return ask<&Store::history>(id); }
  Pending<void> ended(std::string id) override { return ask<&Store::ended>(id); }
  Pending<InvocationRecord> final_record(std::string id) override { return ask<&Store::final_record>(id); }
  Pending<std::vector<InvocationRecord>> list(Selection selection, std::size_t offset, std::size_t most) override {
    return ask<kListRecords>(selection, offset, most);
  }
  Pending<std::vector<std::pair<Status, std::size_t>>> counts() override { return ask<&Store::counts>(); }
  Pending<void> wait_for(std::string waiter, std::vector<std::string> ids) override {
    return ask<&Store::wait_for>(waiter, ids);
  }
  Pending<void> check_cycle(std::string parent_id, std::string task_id, std::string call_id) override {
    return ask<&Store::check_cycle>(parent_id, task_id, call_id);
  }
  Pending<bool> cancel(std::string id) override { return ask<&Store::cancel>(id); }
  Pending<void> heartbeat(RunnerRecord runner, std::chrono::nanoseconds lease) override {
    return ask<&Store::heartbeat>(runner, lease);
  }
  Pending<void> forget_runner(std::string runner) override { return ask<&Store::forget_runner>(runner); }
  Pending<std::vector<RunnerRecord>> runners() override { return ask<&Store::runners>(); }
  Pending<std::vector<std::string>> recover(std::chrono::nanoseconds max_pending) override {
    return ask<&Store::recover>(max_pending);
  }
  Pending<std::size_t> purge(std::optional<std::chrono::nanoseconds> older_than,
                             std::chrono::nanoseconds data_grace) override {
    return ask<&Store::purge>(older_than, data_grace);
  }
  Pending<std::optional<std::string>> value(std::string key) override { return ask<&Store::value>(key); }
  Pending<bool> set_value(ValueChange change) override { return ask<&Store::set_value>(change); }
  Pending<std::vector<std::pair<std::string, std::string>>> values(std::string prefix, std::string after,
                                                                   std::size_t most) override {
    return ask<&Store::values>(prefix, after, most);
  }
  Pending<void> put_data(std::string hash, std::string bytes) override { return ask<&Store::put_data>(hash, bytes); }
  Pending<std::optional<std::string>> data(std::string hash) override { return ask<&Store::data>(hash); }
  std::shared_ptr<void> listen(std::string runner, Listener listener) override;

private:
  const std::function<void(std::string)> send_;
  std::mutex mutex_;
  std::uint64_t last_ = 0;
  std::unordered_map<std::uint64_t, std::function<void(bool, Unpacker&)>> waiting_;
  std::unordered_map<std::uint64_t, Listener> listeners_;
};

/// The other side: does what the requests of one worker ask for. Thread-safety: one thread; replies from any.
class StoreServer {
public:
  StoreServer(std::shared_ptr<Store> store, std::function<void(std::string)> send);
  /// What the worker waits for is not wanted any more.
  ~StoreServer();
  /// request, forget, listen or unlisten. Errors: SerializationError.
  void receive(Frame kind, Unpacker frame);

  /// To the worker.
  struct Replies {
    const std::function<void(std::string)> send;
    std::mutex mutex;
    std::unordered_map<std::uint64_t, PendingBase> waits;  // that have not ended, by the number of the request
  };

private:
  std::shared_ptr<Store> store_;
  std::shared_ptr<Replies> replies_;
  std::unordered_map<std::uint64_t, std::shared_ptr<void>> listeners_;
};

}  // namespace caller::task::detail
