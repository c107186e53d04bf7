// The life of a Core: its thread, its stop, its end, its children. See docs/ARCHITECTURE.md, "The loop".
#include "core.hpp"
#include "log.hpp"

#include <pthread.h>
#include <algorithm>
#include <iterator>

#include <caller/host.hpp>

namespace caller::detail {

// ---- life ----

void Core::bind_to_this_thread() {
  if (this_thread().core) {
    throw Error(Errc::caller_exists,
                "Caller(manual): " + describe_this_thread() + " has the Caller \"" + this_thread().core->name + "\"");
  }
  thread_id = std::this_thread::get_id();
  char buffer[32] = "";
  pthread_getname_np(pthread_self(), buffer, sizeof buffer);
  thread_name = thread_id == main_thread_id() ? "MainThread" : buffer;
  registry_add(*this, thread_id);
  enter_thread();
  retain();  // the thread's own
  bound_ = true;
}

void Core::unbind() noexcept {
  registry_remove(*this);
  if (on_thread()) leave_thread();
  if (std::exchange(bound_, false)) release();  // who ends a Core holds a reference
}

namespace {
thread_local int made_threads = 0;
}  // namespace

bool waits_for_new_thread() noexcept { return made_threads > 0 && made_threads-- > 0; }

void Core::start_thread() {
  std::lock_guard lock(mutex);
  retain();  // the thread's own
  try {
    early_sleeps_ = 2;
    thread_ = std::thread([this] { thread_main(); });
  } catch (...) {
    release();
    throw;
  }
  registry_add_unbound(*this);
  constexpr int kMost = 16;  // a maker that waits for none of them soon
  made_threads = std::min(made_threads + 1, kMost);
  thread_id = thread_.get_id();
  thread_name = name;
  registry_add(*this, thread_id);  // before anyone can ask that thread
}

void Core::thread_main() {
  {
    const std::lock_guard started_up(mutex);
  }  // start_thread is through with us: we may end at once
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
  enter_thread();
  run();
  leave_thread();
  release();
}

void Core::enter_running() {
  CallerState s = CallerState::initial;
  if (state() == s && state_.compare_exchange_strong(s, CallerState::starting)) {
    s = CallerState::starting;
    state_.compare_exchange_strong(s, CallerState::running);
    started.set_result();
    log(this, LogLevel::debug, "started");
  }
}

struct Core::StopOp : Op {
  Core* core;
  explicit StopOp(Core* c) : core(c) {
    act = [](Op* op, OpAct why) {
      auto* self = static_cast<StopOp*>(op);
      if (why == OpAct::run) self->core->begin_stop();
      delete self;
    };
  }
};

CallerState Core::request_stop(bool force) noexcept {
  CallerState s = state();
  if (is_protected.load(std::memory_order_acquire) && !force) {
    log(this, LogLevel::debug, "stop was ignored: it is protected");
    return s;
  }
  while (s < CallerState::stopping && !state_.compare_exchange_weak(s, CallerState::stopping)) {
  }
  if (s < CallerState::stopping) {
    stop_accepting();
    log(this, LogLevel::debug, "stopping");
    stopping.set_result();
    auto* op = new StopOp(this);
    if (!submit(op)) delete op;
  }
  // A manual Caller nobody pumps would never get there: do it here and now.
  if (!owns_thread && !guest_ && on_thread() && depth_ == 0 && !closed_ && state() == CallerState::stopping) {
    const Pump pump(*this);
    loop_until([this] { return stop_ready(); });
    finalize();
  }
  return state();
}

namespace {

/// Also of a coroutine whose outcome somebody else has decided, and which goes on all the same.
void stop_work(PendingBase& work, std::string why) noexcept {
  if (work.cancel(std::move(why))) return;
  PendingState& s = *work.state();
  if (s.done() || s.is(PendingState::kClaimed)) interrupt_wait(s);
}

}  // namespace

void Core::begin_stop() noexcept {
  stop_begun_ = true;
  std::vector<Core*> copy;
  {
    std::lock_guard lock(mutex);
    copy = children;
    for (Core* c : copy) c->retain();
  }
  for (Core* c : copy) {
    c->request_stop(true);
    c->release();
  }
  drop_waiting_calls(*this);
  close_all_lanes(*this);
  cancel_delays(*this);
  // Cancelling runs callbacks and may end tasks: start over after each that is new to us.
  std::vector<PendingBase> running;
  for (PendingState* s = tasks_; s; s = s->next_task) running.push_back(PendingBase::share(s));
  for (auto it = running.rbegin(); it != running.rend(); ++it)
    stop_work(*it, "the caller \"" + name + "\" was stopped");
}

struct Core::NudgeOp : Op {
  NudgeOp() {
    act = [](Op* op, OpAct) { delete static_cast<NudgeOp*>(op); };
  }
};

void Core::forsake() noexcept {
  forsaken_.store(true, std::memory_order_relaxed);
  request_stop(true);
  auto* op = new NudgeOp;  // it may have stopped long since, and sleep: let it look again
  if (!submit(op)) delete op;
  std::vector<Core*> copy;
  {
    std::lock_guard lock(mutex);  // there will be no more of them
    copy = children;
    for (Core* c : copy) c->retain();
  }
  for (Core* c : copy) {
    c->forsake();
    c->release();
  }
}

/// Forsaken, with nothing ready: ends every wait, shields and protection notwithstanding. False: go to sleep, as time
/// is still to come, nothing could be ended, or what was ended waits again and again.
bool Core::end_waits() noexcept {
  constexpr int kRounds = 100;
  timers.remove(idle_timer);  // a worker taken out of the pool still has it
  if (!timers.empty() && !options.clock) return false;
  if (++futile_ > kRounds) {
    futile_ = 0;
    return false;
  }
  std::vector<PendingBase> waiting;
  for (PendingState* s = tasks_; s; s = s->next_task) waiting.push_back(PendingBase::share(s));
  for (auto& p : waiting) {
    clear_flag(*p.state(), PendingState::kProtected);
    stop_work(p, {});
  }
  if (nested_broken) *nested_broken = true;
  return nested_broken || head;
}

bool Core::stop_ready() const noexcept {
  if (!stop_begun_ || tasks_ || head) return false;
  auto& self = const_cast<Core&>(*this);
  std::lock_guard lock(self.mutex);
  return children.empty();
}

struct Core::ChildGone : Op {
  Core *of, *child;
  ChildGone(Core* p, Core* c) : of(p), child(c) {
    act = [](Op* op, OpAct) {
      auto* self = static_cast<ChildGone*>(op);
      self->child->join_thread();
      {  // only now: the end of its thread may be the end of our last handle, which must know that we wait for it
        std::lock_guard lock(self->of->mutex);
        std::erase(self->of->children, self->child);
      }
      self->child->release();
      delete self;
    };
  }
};

void Core::close_and_drop() noexcept {
  rise();  // a guest may end between turns
  closed_ = true;
  divert(true);
  Op* list = inbox.exchange(closed(), std::memory_order_acq_rel);
  if (list && list != asleep() && list != closed()) append_oldest_first(list, tail);
  drop_entries();
}

void Core::drop_entries() noexcept {
  while (Op* op = head) {
    head = op->next;
    op->act(op, OpAct::drop);
  }
  tail = &head;
  while (!timers.empty()) drop_timer(*timers.pop());
}

void Core::await_kicks() const noexcept {
  while (kicks_done_.load(std::memory_order_acquire) != kicks_owed_) std::this_thread::yield();
}

void Core::finalize() noexcept {
  if (state() == CallerState::stopped) return;
  close_and_drop();
  worker_gone(*this);
  unbind();
  await_kicks();
  if (guest_) leave_host();
  driver_->close();
  state_.store(CallerState::stopped, std::memory_order_release);
  started.set_result();
  log(this, LogLevel::debug, "stopped");
  stopped.set_result();
  if (parent) {
    auto* gone = new ChildGone(parent, this);
    // A parent that ended without its loop (abandoned) waits for us by `stopped`, and cleans up itself.
    if (!parent->submit(gone)) delete gone;
  }
}

void Core::abandon_task(PendingState& s) noexcept {
  ThreadState& ts = this_thread();
  unlink_task(s);
  s.suspended = nullptr;
  const auto frame = s.frame();
  s.set_begun();  // there is none any more
  ContextNode* const context = std::exchange(ts.context, std::exchange(s.context, nullptr));
  frame.destroy();
  detail::release(std::exchange(ts.context, context));
  end_work_cancelled(s, "the caller was abandoned");
  s.act(&s, OpAct::finish);
}

bool Core::drop_awaited(const PendingState& s) noexcept {
  const auto is_it = [&s](const Op& op) { return &op == &s || delayed_by(op) == &s; };
  bool ours = false;
  for (const PendingState* t = tasks_; t && !ours; t = t->next_task) ours = t == &s;
  for (const Op* op = head; op && !ours; op = op->next) ours = is_it(*op);
  timers.for_each([&](const TimerNode& n) { ours = ours || is_it(n); });
  if (!ours) return false;
  // In the order of abandon(): what is younger may use what the older one owns.
  drop_entries();
  if (!s.done()) end_children();
  while (!s.done() && tasks_) abandon_task(*tasks_);
  return s.done();
}

/// Their calls may use what the coroutines of this one own. They may also wait for what only the end of those
/// coroutines would do, so such waits end.
void Core::end_children() noexcept {
  drop_waiting_calls(*this);
  std::vector<Core*> gone;
  {
    std::lock_guard lock(mutex);
    gone.swap(children);
  }
  for (Core* c : gone) c->forsake();
  for (Core* c : gone) {
    c->join_thread();
    c->release();
  }
}

void Core::abandon() noexcept {
  if (state() == CallerState::stopped) return;
  for (CallerState s = state(); s < CallerState::stopping && !state_.compare_exchange_weak(s, CallerState::stopping);) {
  }
  stop_accepting();
  log(this, tasks_ ? LogLevel::warning : LogLevel::debug, "abandoned",
      tasks_ ? ", with coroutines that had not ended" : "");
  stopping.set_result();
  forsaken_.store(true, std::memory_order_relaxed);
  abandon_operations();  // while the loop can be told: what ends one elsewhere leaves our list alone then
  close_and_drop();
  end_children();
  while (tasks_) abandon_task(*tasks_);
  close_all_lanes(*this);
  finalize();
}

/// Whether it, or a child of it, runs on this thread, or did: after its loop, callbacks of stopped() and the
/// destructors of what is the thread's are still executed there.
bool Core::ends_on_this_thread() noexcept {
  const std::lock_guard lock(mutex);
  return (owns_thread && thread_id == std::this_thread::get_id()) ||
         std::any_of(children.begin(), children.end(), [](Core* c) { return c->ends_on_this_thread(); });
}

namespace {

/// Threads that wait for the end of a Caller, which may have gone by now only as far as to wait itself.
class Joining {
public:
  explicit Joining(Core& core) {
    const std::lock_guard lock(mutex());
    begun_ = !waits_for_this_thread(core);
    if (begun_) list().push_back({std::this_thread::get_id(), &core});
  }
  Joining(const Joining&) = delete;
  Joining& operator=(const Joining&) = delete;
  ~Joining() {
    if (!begun_) return;
    const std::lock_guard lock(mutex());
    const auto us = std::find(list().rbegin(), list().rend(), std::this_thread::get_id());
    list().erase(std::next(us).base());
  }
  /// False: it would be for ever.
  bool begun() const noexcept { return begun_; }

private:
  struct Entry {
    std::thread::id who;
    Core* whom;
    bool operator==(std::thread::id id) const noexcept { return who == id; }
  };
  static std::mutex& mutex() {
    static auto& one = *new std::mutex;  // for as long as there are threads
    return one;
  }
  static std::vector<Entry>& list() {
    static auto& all = *new std::vector<Entry>;
    return all;
  }
  /// It, or one that its thread waits for. `far`: the longest way there can be; a thread's id may be used again.
  static bool waits_for_this_thread(Core& core, std::size_t far = list().size()) {
    return core.ends_on_this_thread() || std::any_of(list().begin(), list().end(), [&](const Entry& e) {
             return far > 0 && core.owns_thread && e == core.thread_id && waits_for_this_thread(*e.whom, far - 1);
           });
  }
  bool begun_ = false;
};

}  // namespace

void Core::join() {
  // The last handle went on its own thread, or on one that it waits for: it goes on to its end by itself.
  const Joining joining(*this);
  bool alone = !joining.begun();
  for (const Core* c = this_thread().core; c && !alone; c = c->parent) alone = c == this;
  if (alone) {
    const std::lock_guard lock(mutex);
    if (thread_.joinable()) thread_.detach();
    return;
  }
  // With a loop to turn meanwhile; else the end of the thread is all to wait for, once instead of twice.
  if (const Core* const here = this_thread().core; here && !here->dropping()) {
    try {
      block_on(*stopped.state(), std::nullopt, true, true);
    } catch (...) {  // shielded: cannot happen
    }
  }
  join_thread();
}

void Core::join_thread() {
  std::thread t;
  {
    std::lock_guard lock(mutex);
    t.swap(thread_);
  }
  if (!t.joinable()) return;
  wait_awake([this] { return stopped.done(); });  // most end at once, and so does their thread
  t.join();
}

// ---- family ----

Core* Core::adopt_child(Core* core) {
  {
    std::lock_guard lock(mutex);
    // A stop that began looks through the list once: who is not in it by then must not start.
    if (!accepts_calls()) {
      core->release();
      throw CallerStopped("a new child: the Caller \"" + name + "\"");
    }
    children.push_back(core);
    core->retain();  // the list's; the first one is the caller's
  }
  try {
    core->start_thread();
  } catch (...) {
    {
      std::lock_guard lock(mutex);
      std::erase(children, core);
    }
    core->release();
    core->release();
    throw;
  }
  return core;
}

Core* Core::new_child(CallerOptions opts) {
  if (opts.name.empty()) opts.name = name + "-child-" + std::to_string(++child_names_);
  log(this, LogLevel::debug, "new child: ", opts.name);
  return adopt_child(new Core(opts, this, true));
}

Core* Core::child(const CallerOptions& opts) {
  if (opts.host) throw Error(Errc::mismatch, "get: a child has a thread of its own and cannot be a guest");
  if (!accepts_calls()) throw CallerStopped("get: the Caller \"" + name + "\"");
  std::lock_guard one_at_a_time(naming);
  {
    std::lock_guard lock(mutex);
    for (Core* c : children) {
      if (opts.name.empty() || c->worker_pool || c->name != opts.name || !c->accepts_calls()) continue;
      if (opts.backend && *opts.backend != *c->options.backend) {
        throw Error(Errc::mismatch, "get: the child \"" + opts.name + "\" has the backend " +
                                        to_string(*c->options.backend) + ", not " + to_string(*opts.backend));
      }
      c->retain();
      return c;
    }
  }
  return new_child(opts);
}

}  // namespace caller::detail
