// What the page and scripts ask for, as JSON. docs/monitor.md describes it. Internal to this folder.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include <caller/coro.hpp>
#include <caller/error.hpp>
#include <caller/pending.hpp>
#include <caller/task/store.hpp>

#include "http.hpp"
#include "text.hpp"

namespace caller::monitor {

/// Bounds of what is read and shown, in bytes or in things.
inline constexpr std::size_t kShownName = 256, kShownValue = 64 * 1024, kMostValue = 4 << 20, kPreview = 160,
                             kAddressable = 1024;
inline constexpr std::size_t kMostRead = 32 << 20, kNewest = 16, kMostParts = 256;
inline constexpr std::size_t kPage = 50, kMostPage = 200, kMostRunners = 500, kMostFamily = 400, kMostTimeline = 400;

/// An error of a request: an HTTP status and a sentence.
struct BadRequest {
  int status;
  std::string text;
};

/// A question of several asked at once. If an earlier one fails, nobody looks at this one's answer: it is taken back.
template <class T>
struct Question {
  Pending<T> pending;
  explicit Question(Pending<T> p) noexcept : pending(std::move(p)) {}
  Question(Question&&) noexcept = default;
  Question& operator=(Question&&) = delete;
  ~Question() {
    if (!pending) return;
    pending.cancel();
    try {
      if (pending.done()) (void)pending.exception();
    } catch (const PendingCancelled&) {
    }
  }
};

/// Thread-safety: a loop's thread. Errors: arrive as answers, unless said otherwise.
class Api : public std::enable_shared_from_this<Api> {
public:
  Api(std::shared_ptr<task::Store> store, std::string title, bool allow_write, std::chrono::nanoseconds store_time);

  /// Of a request whose path begins with `api`. `self` keeps it.
  static Coro<Response> handle(std::shared_ptr<Api> self, std::string method, Target target, std::string body);

  /// Counts, runners, and whatever else tells that something has changed; `digest` is another text when so.
  /// Errors: those of the store.
  struct State {
    std::string json, digest;
  };
  static Coro<State> state(std::shared_ptr<Api> self);

  task::Store& store() const noexcept { return *store_; }
  /// As the Pending; it is given up after the store's time. Errors: TimedOut; StateBackendError when the store cancels
  /// it, which is not to be taken for our own end; the Pending's.
  template <class T>
  Coro<T> in_time(Pending<T> asked) const {
    WaitOptions how;
    how.timeout = store_time_;
    Coro<T> wait = asked.async_wait(how);
    try {
      if constexpr (std::is_void_v<T>) {
        co_await std::move(wait);
        co_return;
      } else {
        T value = co_await std::move(wait);
        co_return value;
      }
    } catch (const PendingCancelled&) {
      if (!Caller::current().running()) throw;
    }
    throw task::StateBackendError("the store has stopped");
  }
  template <class T>
  Coro<T> in_time(const Question<T>& asked) const {
    return in_time(asked.pending);
  }

private:
  Coro<nlohmann::json> route(std::string method, Target target, std::string body);
  nlohmann::json info() const;

  const std::shared_ptr<task::Store> store_;
  const std::string title_;
  const bool allow_write_;
  const std::chrono::nanoseconds store_time_;
};

// The answers, by subject.
Coro<nlohmann::json> list_answer(std::shared_ptr<Api> api, Target target);
Coro<nlohmann::json> invocation_answer(std::shared_ptr<Api> api, std::string id, std::size_t most);
Coro<nlohmann::json> family_answer(std::shared_ptr<Api> api, std::string id);
Coro<nlohmann::json> workflow_answer(std::shared_ptr<Api> api, std::string id);
Coro<nlohmann::json> timeline_answer(std::shared_ptr<Api> api, Target target);
Coro<nlohmann::json> queues_answer(std::shared_ptr<Api> api);
Coro<nlohmann::json> cancel_answer(std::shared_ptr<Api> api, std::string id);
Coro<nlohmann::json> retry_answer(std::shared_ptr<Api> api, std::string id);
Coro<nlohmann::json> purge_answer(std::shared_ptr<Api> api, std::string body);

// Their parts.
/// The first of a selection, newest first: at most `most`, and no more than kMostRead bytes of arguments and results.
struct Page {
  std::vector<task::InvocationRecord> records;
  bool more = false;
};
Coro<Page> collected(std::shared_ptr<Api> api, task::Selection selection, std::size_t most);
double milliseconds(task::Time at) noexcept;
double milliseconds_now() noexcept;
/// Of an id or a name: `{"id": …, "key": …}`; the key is what goes into a path, null when it is too long for one.
nlohmann::json name_json(std::string_view raw);
nlohmann::json brief_json(const task::InvocationRecord& record);
nlohmann::json error_json(std::string_view name, std::string_view text);
/// JSON as bytes; invalid UTF-8 in it, which should not be there, is replaced.
std::string dumped(const nlohmann::json& json);

}  // namespace caller::monitor
