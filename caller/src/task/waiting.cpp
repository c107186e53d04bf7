// Waiting for results, and what becomes of the one who waits.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include "app.hpp"
#include "spin.hpp"

namespace caller::task::detail {

bool ends_soon(const PendingBase& end) {
  static const int most = static_cast<int>(std::thread::hardware_concurrency()) / 2;
  static std::atomic<int> spinning{0};
  if (end.done()) return true;
  const bool ended =
      spinning.fetch_add(1) < most && spin_until(std::chrono::microseconds(40), [&] { return end.done(); });
  spinning.fetch_sub(1);
  return ended;
}

std::string whole_bytes(AppCore& app, std::string stored) {
  return is_packed(stored) ? app.data.unpack(std::move(stored)) : stored;
}

namespace {

/// `id`, `task_id`: for what is said of it.
std::string result_of_end(const std::string& id, const std::string& task_id, Status status, std::string result,
                          const std::string& exception) {
  switch (status) {
    case Status::success:
      return result;
    case Status::failed:
      ExceptionRecord::from_json(exception).rethrow();
    case Status::cancelled:
      throw InvocationCancelledError(id);
    case Status::concurrency_controlled_final:
      throw TaskRoutingError(
          task_id, "invocation " + id + " of task " + task_id + " was refused: another one of its kind was running");
    default:
      throw InvocationStatusError(id, "invocation " + id + " has no result: it is " + std::string(name(status)));
  }
}
std::string result_of_end(std::string_view id, Ended& end) {
  if (end.error) std::rethrow_exception(end.error);
  return result_of_end(std::string(id), end.task_id, end.status, std::move(end.result), end.exception);
}

/// Of the end that is awaited. Who leaves before does not want to know of it any more, however that came.
class Wanted {
public:
  explicit Wanted(const PendingBase& end) : end_(end) {}
  Wanted(const Wanted&) = delete;
  Wanted& operator=(const Wanted&) = delete;
  ~Wanted() {
    if (!end_.done()) (void)end_.cancel();
  }

private:
  const PendingBase& end_;
};

/// A wait of the code of `run` for another invocation: it is PAUSED and its slot is free meanwhile. Several waits of
/// one run at the same time count as one.
class Wait {
public:
  Wait(AppPtr app, std::shared_ptr<const Run> run) : app_(std::move(app)), run_(std::move(run)) {}
  /// What there is to do first; null: nothing.
  std::optional<Pending<void>> begin() {
    const std::optional<bool> first = run_->begin_wait();
    counts_ = first.has_value();
    if (!first.value_or(false)) return std::nullopt;
    if (run_->slots) run_->slots->give_back_slot();
    Pending<void> paused = change_to(Status::paused);
    // Its end did not know of this wait, which may be said of the next try by now.
    if (run_->over()) (void)change_to(Status::resumed);
    return paused;
  }
  /// What there is to wait for before the run goes on.
  std::optional<Pending<void>> end() {
    if (!counts_ || !run_->end_wait()) return std::nullopt;
    last_ = true;
    if (!run_->slots) return std::nullopt;
    return run_->slots->take_slot_again();
  }
  std::optional<Pending<void>> resumed() {
    if (!last_) return std::nullopt;
    std::optional<Pending<void>> told;
    // What comes behind its end would be said of it where it is tried again; who told the end knows of the wait.
    if (!run_->over()) told = change_to(Status::resumed);
    run_->resumed();
    return told;
  }

private:
  /// That it is refused is no news: the end of the one that waits may have been decided by others.
  Pending<void> change_to(Status status) {
    Pending<void> change = store_of(*app_).change({run_->id, status, run_->runner_id, {}, {}, {}});
    leave_alone(change);
    return change;
  }

  AppPtr app_;
  std::shared_ptr<const Run> run_;
  bool counts_ = false, last_ = false;
};

/// Whose code waits, as far as it is the business of an invocation: what its code left behind waits as anybody does.
std::shared_ptr<const Run> waiting_run() {
  auto run = current_run();
  if (run && run->over()) run.reset();
  return run;
}

}  // namespace

Coro<std::string> result_of(AppPtr app, std::string id) {
  Store& store = store_of(*app);
  const Pending<InvocationRecord> ended = store.final_record(id);
  const Wanted wanted(ended);
  const auto run = waiting_run();
  if (ended.done() || !run) {
    (void)co_await ended.async_wait_done();
  } else {
    const Pending<void> waits = store.wait_for(run->id, std::vector<std::string>(1, id));
    co_await waits;
    Wait wait(app, run);
    const std::optional<Pending<void>> paused = wait.begin();
    std::exception_ptr error;
    WaitOptions alone;
    alone.protect = true;
    try {
      if (paused) (void)co_await paused->async_wait_done(alone);
      (void)co_await ended.async_wait_done();
      error = ended.exception();
    } catch (...) {
      error = std::current_exception();
    }
    // A slot that is not waited for any more comes all the same, and goes when the code ends.
    if (auto slot = wait.end(); slot && !error) (void)co_await slot->async_wait_done(alone);
    WaitOptions to_the_end;
    to_the_end.shield = true;
    if (auto last = wait.resumed()) (void)co_await last->async_wait_done(to_the_end);
    if (error) std::rethrow_exception(error);
  }
  const InvocationRecord& end = ended.result();
  std::string bytes = result_of_end(end.id, end.task_id, end.status, end.result, end.exception);
  if (!is_packed(bytes)) co_return bytes;
  co_return co_await app->data.async_unpack(std::move(bytes));
}

namespace {

/// Blocks until all are final. In a task the slot of the waiting one is free meanwhile.
void wait_now(const AppPtr& app, std::span<const Routed* const> calls, const PendingBase& ends) {
  if (ends.done()) return;
  const Wanted wanted(ends);
  const auto run = waiting_run();
  if (!run) {
    if (calls.size() > 1 || !ends_soon(ends)) ends.wait_done();
    return;
  }
  std::vector<std::string> ids;
  for (const Routed* const call : calls) ids.push_back(call->id);
  store_of(*app).wait_for(run->id, std::move(ids)).wait();
  Wait wait(app, run);
  const std::optional<Pending<void>> paused = wait.begin();
  std::exception_ptr error;
  WaitOptions alone;
  alone.protect = true;
  try {
    if (paused) paused->wait_done(alone);
    ends.wait_done();
    error = ends.exception();
  } catch (...) {
    error = std::current_exception();
  }
  if (auto slot = wait.end(); slot && !error) slot->wait_done(alone);
  if (auto last = wait.resumed()) last->wait_done();
  if (error) std::rethrow_exception(error);
}

constexpr std::size_t kAhead = 8;  // calls whose memory is asked for before it is needed: there may be many

/// How calls ended, in which order.
std::vector<Ended> ends_of(const AppPtr& app, std::span<const Routed* const> calls) {
  std::vector<std::string_view> ids;
  for (const Routed* const call : calls) ids.emplace_back(call->id);
  const Pending<std::vector<Ended>> ended = store_of(*app).all_ended(ids);
  wait_now(app, calls, ended);
  return std::move(ended.result());  // nobody else has it
}
/// In which order: where the store shares its invocations they are asked themselves how.
std::vector<std::uint32_t> order_of(const AppPtr& app, LocalStore& store, std::span<const Routed* const> calls) {
  std::vector<const LocalCall*> theirs;
  theirs.reserve(calls.size());
  for (const Routed* const call : calls) theirs.push_back(&*call->local);
  const Pending<std::vector<std::uint32_t>> ended = store.ends_of(theirs);
  wait_now(app, calls, ended);
  return std::move(ended.result());
}

}  // namespace

void await_end(const AppPtr& app, const std::string& id) {
  const Routed call{id};
  (void)ends_of(app, std::array{&call});
}

std::string result_now(const AppPtr& app, const std::string& id) { return result_now(app, Routed{id}); }
std::string result_now(const AppPtr& app, const Routed& routed) {
  if (routed.local && routed.local->ended()) {
    Ended end = routed.local->end();
    return app->data.unpack(result_of_end(routed.id, end));
  }
  return std::move(results_now(app, std::array{&routed}, true).front().second);
}

std::vector<std::pair<std::size_t, std::string>> results_now(const AppPtr& app, std::span<const Routed* const> calls,
                                                             bool as_they_ended) {
  std::vector<std::pair<std::size_t, std::string>> out;
  out.reserve(calls.size());
  const auto add = [&](std::size_t place, Ended end) {
    out.emplace_back(place, app->data.unpack(result_of_end(calls[place]->id, end)));
  };
  LocalStore* const local = app->local_store();
  if (local && std::all_of(calls.begin(), calls.end(), [](const Routed* c) { return bool(c->local); })) {
    std::vector<std::uint32_t> order = order_of(app, *local, calls);
    if (!as_they_ended) std::sort(order.begin(), order.end());
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (i + kAhead < order.size()) __builtin_prefetch(&*calls[order[i + kAhead]]->local);
      add(order[i], calls[order[i]]->local->end());
    }
    return out;
  }
  std::vector<Ended> ends = ends_of(app, calls);
  if (!as_they_ended)
    std::sort(ends.begin(), ends.end(), [](const Ended& a, const Ended& b) { return a.place < b.place; });
  for (Ended& end : ends) {
    const std::size_t place = end.place;
    add(place, std::move(end));
  }
  return out;
}

}  // namespace caller::task::detail
