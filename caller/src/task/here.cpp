// Development mode and SyncRunner: calls that run where they are made.
#include "here.hpp"

#include <unistd.h>

#include <utility>

#include "app.hpp"
#include "runtime/shielded_wait.hpp"

namespace caller::task::detail {

HereRunner::HereRunner(AppCore& app) : app_(app), id_(new_uuid()) {}

HereRunner::~HereRunner() {
  if (clock_) caller::detail::end_loop(*clock_);
}

Pending<void> HereRunner::tell() {
  RunnerRecord told;
  told.id = id_;
  told.description = "calls that process " + std::to_string(::getpid()) + " executes where they are made";
  return app_.store().heartbeat(std::move(told), app_.options.lease);
}

void HereRunner::enter() {
  std::optional<Pending<void>> told;
  {
    const std::lock_guard lock(mutex_);
    if (at_work_++ > 0) return;
    try {
      told = tell();
      if (!clock_) clock_.emplace(caller::new_thread, CallerOptions{.name = "tasks-here"});
      beat_later_locked();
    } catch (...) {
      --at_work_;
      throw;
    }
  }
  try {
    told->wait();
  } catch (...) {
    leave();
    throw;
  }
}

void HereRunner::leave() noexcept {
  const std::lock_guard lock(mutex_);  // told in the order of what happens
  if (--at_work_ > 0) return;
  try {
    leave_alone(app_.store().forget_runner(id_));
  } catch (...) {  // the lease will be over
  }
}

void HereRunner::beat_later_locked() {
  if (std::exchange(beats_, true)) return;
  (void)clock_->call_later(app_.options.lease / 3, [this] { beat(); });
}

void HereRunner::beat() {
  const std::lock_guard lock(mutex_);
  beats_ = false;
  if (at_work_ == 0) return;
  try {
    leave_alone(tell());
  } catch (...) {  // perhaps the next one
  }
  beat_later_locked();
}

namespace {

/// Whether the change was made; else somebody else has the invocation by now.
bool made(Store& store, const Change& change) {
  try {
    store.change(change).wait();
    return true;
  } catch (const InvocationStatusError&) {
    return false;
  }
}

}  // namespace

void run_here(const AppPtr& app, const std::string& id) {
  Store& store = store_of(*app);
  InvocationRecord record = store.get(id).wait();
  const DefinitionPtr definition = app->find_or_ask(record.task_id);
  const HereRunner::Stay stay(app->here);
  const std::string& here = app->here.id();
  // One that was there before this process may wait for a time.
  if (record.status == Status::scheduled) (void)made(store, {id, Status::registered, {}, {}, {}, {}});
  for (;;) {
    if (!made(store, {id, Status::pending, here, {}, {}, {}}) || !made(store, {id, Status::running, here, {}, {}, {}}))
      return await_end(app, id);
    const auto run = make_run(app, record, here, nullptr);
    std::exception_ptr error;
    std::string result;
    with_run(run, [&] {
      try {
        result = definition->plain
                     ? definition->plain(app->options.format, record.args, {})
                     : call_async_from_sync([&] { return definition->coroutine(app->options.format, record.args); });
      } catch (...) {
        error = std::current_exception();
      }
    });
    (void)run->end();
    Change end = outcome(*definition, record, here, error, std::move(result));
    const bool again = end.to == Status::retry;
    end.delay = {};  // who waits for the call does not wait longer than it must
    // Its code may have ended while it waited for another one, which it then no longer does, or which a thread that it
    // has left does.
    if (!made(store, end) && !(made(store, {id, Status::resumed, here, {}, {}, {}}) && made(store, end)))
      return await_end(app, id);
    if (!again) return;
    ++record.retries;
  }
}

}  // namespace caller::task::detail
