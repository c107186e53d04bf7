// A store that counts how often it is looked at, and fails, is silent or has stopped when told to.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <caller/task/store.hpp>

class OddStore : public caller::task::Store {
  using S = std::string;
  template <class T>
  using Pending = caller::Pending<T>;

public:
  std::atomic<int> looks{0};
  std::atomic<bool> broken{false}, silent{false}, stopped{false};
  std::shared_ptr<caller::task::Store> real = caller::task::make_memory_store();

  S description() const override { return real->description(); }
  Pending<std::vector<caller::task::Added>> add(std::vector<caller::task::NewInvocation> c) override {
    return real->add(std::move(c));
  }
  Pending<std::vector<caller::task::InvocationRecord>> take(S r, std::size_t n, std::vector<S> q, bool begin) override {
    return real->take(std::move(r), n, std::move(q), begin);
  }
  Pending<void> change(caller::task::Change c) override { return real->change(std::move(c)); }
  Pending<void> code_ended(S runner, S id) override { return real->code_ended(std::move(runner), std::move(id)); }
  Pending<caller::task::InvocationRecord> get(S id) override {
    return odd([&] { return real->get(std::move(id)); });
  }
  Pending<std::vector<caller::task::HistoryEntry>> history(S id) override {
    return odd([&] { return real->history(std::move(id)); });
  }
  Pending<void> ended(S id) override { return real->ended(std::move(id)); }
  Pending<caller::task::InvocationRecord> final_record(S id) override {
    return odd([&] { return real->final_record(std::move(id)); });
  }
  Pending<std::vector<caller::task::InvocationRecord>> list(caller::task::Selection s, std::size_t offset,
                                                            std::size_t most) override {
    return odd([&] { return real->list(std::move(s), offset, most); });
  }
  Pending<std::vector<std::pair<caller::task::Status, std::size_t>>> counts() override {
    ++looks;
    return odd([&] { return real->counts(); });
  }
  Pending<void> wait_for(S w, std::vector<S> ids) override { return real->wait_for(std::move(w), std::move(ids)); }
  Pending<void> check_cycle(S p, S t, S c) override {
    return real->check_cycle(std::move(p), std::move(t), std::move(c));
  }
  Pending<bool> cancel(S id) override { return real->cancel(std::move(id)); }
  Pending<void> heartbeat(caller::task::RunnerRecord r, std::chrono::nanoseconds lease) override {
    return real->heartbeat(std::move(r), lease);
  }
  Pending<void> forget_runner(S r) override { return real->forget_runner(std::move(r)); }
  Pending<std::vector<caller::task::RunnerRecord>> runners() override {
    return odd([&] { return real->runners(); });
  }
  Pending<std::vector<S>> recover(std::chrono::nanoseconds m) override { return real->recover(m); }
  Pending<std::size_t> purge(std::optional<std::chrono::nanoseconds> o, std::chrono::nanoseconds g) override {
    return real->purge(o, g);
  }
  Pending<std::optional<S>> value(S k) override { return real->value(std::move(k)); }
  Pending<bool> set_value(caller::task::ValueChange c) override { return real->set_value(std::move(c)); }
  Pending<std::vector<std::pair<S, S>>> values(S p, S a, std::size_t m) override {
    return real->values(std::move(p), std::move(a), m);
  }
  Pending<void> put_data(S h, S b) override { return real->put_data(std::move(h), std::move(b)); }
  Pending<std::optional<S>> data(S h) override { return real->data(std::move(h)); }
  std::shared_ptr<void> listen(S r, caller::task::Listener l) override {
    return real->listen(std::move(r), std::move(l));
  }

private:
  template <class F, class T = typename std::invoke_result_t<F>::value_type>
  Pending<T> odd(F answer) {
    if (silent) return Pending<T>();
    if (stopped) {
      Pending<T> out;
      out.cancel();
      return out;
    }
    if (!broken) return answer();
    Pending<T> out;
    out.set_exception(caller::task::StateBackendError("the disk is on fire"));
    return out;
  }
};
