// The store in Redis: every step a script (scripts.cpp), every wait a message. Internal to this folder.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include <caller/caller.hpp>
#include <caller/task/redis.hpp>
#include <caller/task/store.hpp>

#include "../awaiting.hpp"
#include "answer.hpp"
#include "client.hpp"
#include "scripts.hpp"

namespace caller::task::redis {

using std::chrono::nanoseconds;
using Strings = std::vector<std::string>;
using detail::Awaiting;
using detail::AwaitingById;

/// Its client's callbacks use it; they end before it does.
class RedisStore final : public Store {
public:
  RedisStore(const RedisOptions& options, const std::string& app_id, nanoseconds patience);
  ~RedisStore() override;
  void share() { shared_->store = this; }
  std::string description() const override { return client_->address().shown; }

  Pending<std::vector<Added>> add(std::vector<NewInvocation> calls) override;
  Pending<std::vector<InvocationRecord>> take(std::string runner, std::size_t most, std::vector<std::string> queues,
                                              bool begin) override;
  Pending<void> change(Change c) override;
  Pending<void> code_ended(std::string runner, std::string id) override;
  ChangeAndTake change_and_take(Change c, std::size_t most, std::vector<std::string> queues) override;
  Pending<bool> cancel(std::string id) override;
  Pending<InvocationRecord> get(std::string id) override;
  Pending<std::vector<HistoryEntry>> history(std::string id) override;
  Pending<std::vector<InvocationRecord>> list(Selection s, std::size_t offset, std::size_t most) override;
  Pending<std::vector<std::pair<Status, std::size_t>>> counts() override;
  Pending<void> ended(std::string id) override;
  Pending<InvocationRecord> final_record(std::string id) override;
  std::vector<Pending<InvocationRecord>> final_records(const std::vector<std::string>& ids) override;
  Pending<void> wait_for(std::string waiter, std::vector<std::string> ids) override;
  Pending<void> check_cycle(std::string parent_id, std::string task_id, std::string call_id) override;
  Pending<void> heartbeat(RunnerRecord told, nanoseconds lease) override;
  Pending<void> forget_runner(std::string runner) override;
  Pending<std::vector<RunnerRecord>> runners() override;
  Pending<std::vector<std::string>> recover(nanoseconds max_pending) override;
  Pending<std::size_t> purge(std::optional<nanoseconds> older_than, nanoseconds data_grace) override;
  Pending<std::optional<std::string>> value(std::string key) override;
  Pending<bool> set_value(ValueChange c) override;
  Pending<std::vector<std::pair<std::string, std::string>>> values(std::string prefix, std::string after,
                                                                   std::size_t most) override;
  Pending<void> put_data(std::string hash, std::string bytes) override;
  Pending<std::optional<std::string>> data(std::string hash) override;
  std::shared_ptr<void> listen(std::string runner, Listener listener) override;

private:
  struct Shared {  // what outlives the store
    std::mutex mutex;
    RedisStore* store;
    bool is_open() {
      const std::lock_guard lock(mutex);
      return store != nullptr;
    }
  };

  /// Its answer becomes a T by `read`.
  template <class T, class F>
  Pending<T> step(const Script& script, Strings arguments, F read, Status to = {}) {
    Pending<T> p;
    client_->run(script, prefix_, std::move(arguments),
                 [p, read = std::move(read), to](Reply* reply, const std::exception_ptr& error) {
                   settle(p, reply, error, to, read);
                 });
    return p;
  }
  template <class T, class F>
  static void settle(const Pending<T>& p, Reply* reply, std::exception_ptr error, Status to, const F& read) {
    if (!error) {
      try {
        Answer a(*reply);
        check(a, to);
        if constexpr (std::is_void_v<T>) {
          read(a);
          p.set_result();
        } else {
          p.set_result(read(a));
        }
        return;
      } catch (...) {
        error = std::current_exception();
      }
    }
    p.set_exception(std::move(error));
  }
  /// Names a step, so that it is done once though it may be asked for twice.
  std::string token() { return name_ + std::to_string(last_step_.fetch_add(1)); }

  // life.cpp; a step that looks at a part only goes on until it has seen all
  Pending<std::vector<Added>> add_plain(std::vector<NewInvocation> calls);
  static void append(Strings& a, NewInvocation& c, const NewInvocation* before);
  void take_some(Pending<std::vector<InvocationRecord>> p, Strings a);
  void took(const Pending<std::vector<InvocationRecord>>& p, Strings asked, Reply* reply, std::exception_ptr error);
  struct Changing {
    std::string id, runner;
    Status to;
  };
  Strings to_change(Change& c);
  void changed(const Pending<void>& p, const Changing& what, Reply* reply, const std::exception_ptr& error);

  // lists.cpp
  void list_some(Pending<std::vector<InvocationRecord>> p, Strings a,
                 std::shared_ptr<std::vector<InvocationRecord>> found);

  // upkeep.cpp
  void purge_some(Pending<std::size_t> p, Strings ages, std::size_t before);
  void ask_for_requests(Strings a);
  std::string asks(const std::string& runner, const std::string& step, bool begin);
  struct Got {  // by a step
    std::string step;
    InvocationRecord record;
  };
  std::vector<InvocationRecord> given_to(const std::string& runner, std::size_t most);
  void given(const std::string& runner, const std::string& message);
  void give_back(const std::string& runner, const std::string& id);
  bool has(const Strings& asked, std::vector<Got>& list, bool offers);
  void failed_to_take(const std::string& runner, const std::string& step);
  void no_longer_has(const std::string& runner, const std::string& id, bool failed);
  void knows_code(const std::string& runner, const std::string& id, bool goes_on);
  void compare(const std::string& runner);
  void release();

  // waits.cpp
  template <class T>
  Pending<T> wait_for_end(std::string id);
  void ask_for_end(std::string id, bool with_record);
  void have_ended(const Strings& ids, Reply* reply, std::exception_ptr error);
  void end(const std::string& id, std::optional<InvocationRecord> record = {}, const std::exception_ptr& error = {});
  void end_with(const std::string& message);

  // messages.cpp
  void subscribed(const std::string& channel);
  void message(const std::string& channel, const std::string& m);
  template <class F, class Wants, class... A>
  void tell(F Listener::* what, Wants wants, const A&... arguments);
  void tell_of_work();
  void tell_of_work(const std::string& runner);
  void tell_of_value(const std::string& key);
  void cancelled(const std::string& runner, const std::string& id);
  void forget(std::uint64_t token);

  const std::string prefix_, name_;
  const std::chrono::milliseconds again_for_;  // a step may be asked for a second time
  std::unique_ptr<Client> client_;
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::mutex mutex_;
  AwaitingById ends_;
  std::map<std::uint64_t, std::pair<std::string, Listener>> listeners_;
  struct Held {
    // With the steps by which it got each, the oldest first: it may get one again before it has heard that it is rid
    // of it.
    std::map<std::string, std::vector<std::string>> ids;
    std::set<std::string> codes;          // ids of those whose code goes on, though they have ended
    std::set<std::string> asking;         // takes under way
    std::string offer;                    // the last take that found nothing, by which the server may give it one
    bool offered = false;                 // it is still to be taken back
    std::vector<InvocationRecord> given;  // by the server, until they are taken here
    bool told = false;                    // of work, and has not asked since
    bool subscribed = false;              // before
    bool compare = false;                 // with what the server says it has

    /// False: it has it by that step already.
    bool gets(const std::string& id, const std::string& step) {
      auto& steps = ids[id];
      if (std::find(steps.begin(), steps.end(), step) != steps.end()) return false;
      steps.push_back(step);
      return true;
    }
    /// What it got first, or `latest`.
    void loses(const std::string& id, bool latest) {
      const auto it = ids.find(id);
      if (it == ids.end()) return;
      it->second.erase(latest ? it->second.end() - 1 : it->second.begin());
      if (it->second.empty()) ids.erase(it);
    }
    bool has(const std::string& id, const std::string& step) const {
      const auto it = ids.find(id);
      return it != ids.end() && std::find(it->second.begin(), it->second.end(), step) != it->second.end();
    }
  };
  std::unordered_map<std::string, Held> held_;
  std::uint64_t last_token_ = 0;
  std::atomic<std::uint64_t> last_step_{0};
  std::uint64_t release_ = 0;  // of the client's thread
};

}  // namespace caller::task::redis
