#include <caller/caller.hpp>

#include <pthread.h>
#include <ostream>

#include "core.hpp"
#include "tracking.hpp"

namespace caller {

using detail::Core;

const char* to_string(Backend b) noexcept {
  switch (b) {
    case Backend::asio:
      return "asio";
    case Backend::manual:
      return "manual";
    case Backend::uv:
      return "uv";
  }
  return "unknown";
}

const char* to_string(CallerState s) noexcept {
  switch (s) {
    case CallerState::initial:
      return "initial";
    case CallerState::starting:
      return "starting";
    case CallerState::running:
      return "running";
    case CallerState::stopping:
      return "stopping";
    case CallerState::stopped:
      return "stopped";
  }
  return "unknown";
}

namespace detail {

void retain_core(Core& core, bool owner) noexcept {
  core.retain();
  if (owner) core.owners.fetch_add(1, std::memory_order_relaxed);
}

void release_core(Core& core, bool owner) noexcept {
  if (owner && core.owners.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    if (core.owns_thread) {
      Core* const here = this_thread().core;
      if (here && here->forsaken())
        core.forsake();  // a coroutine of an abandoned Caller owned it
      else
        core.request_stop(true);
      core.join();
    } else if (!core.on_thread()) {
      core.request_stop(true);  // its thread may still pump it
    } else if (core.outermost()) {
      core.abandon();
    } else {  // its loop turns around us, and ends it on its way out
      core.orphaned = true;
      core.request_stop(true);
    }
  }
  core.release();
}

Core& find_core(Modifier which, const CallerOptions& options) {
  if (which == Modifier::guest && !options.host)
    throw Error(
        Errc::mismatch,
        "Caller(guest): a guest is driven by its host, .host = asio_host(io), uv_host(loop) or another HostLoop");
  if (which != Modifier::guest && options.host)
    throw Error(Errc::mismatch, "Caller(\"" + options.name + "\"): only a guest has a host");
  Core* found = nullptr;
  switch (which) {
    case Modifier::new_thread: {
      CallerOptions o = options;
      auto* core = new Core(o, nullptr, true);
      try {
        core->start_thread();
      } catch (...) {
        core->release();
        throw;
      }
      core->owners.store(1, std::memory_order_relaxed);
      return *core;
    }
    case Modifier::guest:
    case Modifier::manual: {
      auto* core = new Core(options, nullptr, false);
      try {
        core->bind_to_this_thread();
        if (options.host) core->enter_host();
      } catch (...) {
        core->release();
        throw;
      }
      registry_add_unbound(*core);
      core->owners.store(1, std::memory_order_relaxed);
      return *core;
    }
    case Modifier::main_thread:
      found = registry_find(main_thread_id());
      if (!found) throw NoRunningCaller("Caller(main_thread): the main thread");
      break;
    case Modifier::current_thread:
      found = this_thread().core;
      if (!found) throw NoRunningCaller("Caller(): " + describe_this_thread());
      found->retain();
      break;
  }
  const bool backend_differs = options.backend && *options.backend != *found->options.backend;
  if ((!options.name.empty() && options.name != found->name) || backend_differs) {
    const std::string text = "Caller(\"" + options.name + "\"): the thread has the Caller \"" + found->name +
                             "\" with the backend " + to_string(*found->options.backend);
    found->release();
    throw Error(Errc::mismatch, text);
  }
  return *found;
}

bool accepts_calls(Core& core) noexcept { return core.accepts_calls(); }

void prepare_launch(PendingState& s, PendingState::Word word, const ScheduleOptions* options) noexcept {
  s.set_first_word(word);
  s.context = options && options->context ? options->context->share() : retain(current_context());
  if (options && !options->metadata.empty()) extras_of(s).metadata = options->metadata;
  if (options && options->trackers) s.context = with_trackers(s.context, *options->trackers);
  if (s.context && s.context->group && !(options && options->opt_out_of_groups)) group_add(*s.context->group, s);
}

void enqueue_launch(Core& core, PendingState& s) noexcept {
  if (s.core != &core) s.core = &core;  // of a call of to_thread; else a group may have told somebody of it already
  if (!core.accepts_calls() || !core.submit(&s)) s.act(&s, OpAct::drop);
}

void launch_slow(Core& core, PendingState& s, const ScheduleOptions* options) noexcept {
  prepare_launch(s, PendingState::kWork, options);
  if (options && options->delay > Duration::zero() && core.accepts_calls())
    arm_delay(core, s, nullptr, options->delay);
  else
    enqueue_launch(core, s);
}

void launch_later(Core& core, PendingState& s, DelayNode& node, Duration delay) noexcept {
  prepare_launch(s, core.on_thread() ? core.own_call : PendingState::kWork, nullptr);
  if (delay > Duration::zero() && core.accepts_calls())
    arm_delay(core, s, &node, delay);
  else
    enqueue_launch(core, s);
}

void Core::report(const std::string& where, const std::exception_ptr& error) noexcept {
  report_error(this, where.c_str(), error);
}

}  // namespace detail

Caller::Caller(Modifier which, const CallerOptions& options)
    : core_(&detail::find_core(which, options)),
      owner_(which == Modifier::new_thread || which == Modifier::manual || which == Modifier::guest) {}

Caller::Caller(const Caller& other) noexcept : core_(other.core_), owner_(other.owner_) {
  if (core_) detail::retain_core(*core_, owner_);
}

Caller::~Caller() {
  if (core_) detail::release_core(*core_, owner_);
}

std::optional<Caller> Caller::find(std::thread::id thread) {
  if (Core* c = detail::registry_find(thread)) return Caller(Adopt{}, *c, false);
  return std::nullopt;
}

Caller Caller::get(const CallerOptions& options) { return Caller(Adopt{}, *core_->child(options), false); }

std::vector<Caller> Caller::children() const {
  std::vector<Caller> out;
  std::lock_guard lock(core_->mutex);
  for (Core* c : core_->children) {
    if (!c->accepts_calls()) continue;
    c->retain();
    out.emplace_back(Adopt{}, *c, false);
  }
  return out;
}

std::optional<Caller> Caller::parent() const {
  if (!core_->parent) return std::nullopt;
  core_->parent->retain();
  return Caller(Adopt{}, *core_->parent, false);
}

std::string Caller::name() const { return core_->name; }
std::uint64_t Caller::id() const noexcept { return core_->id; }
std::thread::id Caller::thread() const noexcept {
  std::lock_guard lock(core_->mutex);  // a new thread may ask before its maker wrote it down
  return core_->thread_id;
}
std::string Caller::thread_name() const {
  std::lock_guard lock(core_->mutex);
  return core_->thread_name;
}
Backend Caller::backend() const noexcept { return *core_->options.backend; }
CallerState Caller::state() const noexcept { return core_->state(); }
bool Caller::is_protected() const noexcept { return core_->is_protected.load(std::memory_order_acquire); }
void Caller::protect() noexcept { core_->is_protected.store(true, std::memory_order_release); }
bool Caller::is_current() const noexcept { return core_->on_thread(); }
Pending<void> Caller::started() const { return core_->started; }
Pending<void> Caller::stopping() const { return core_->stopping; }
Pending<void> Caller::stopped() const { return core_->stopped; }
CallerState Caller::stop(bool force) { return core_->request_stop(force); }
void Caller::run() { core_->run(); }
std::size_t Caller::run_once() { return core_->run_once(); }
std::size_t Caller::poll() { return core_->poll(); }
void Caller::run_until(const PendingBase& pending) { core_->run_until(*pending.state()); }

void Caller::throw_stopped(const char* operation) const {
  throw CallerStopped(std::string(operation) + ": the Caller \"" + core_->name + "\"");
}

void Caller::require_backend(Backend backend) const { detail::check_backend(backend, core_->options.host.get()); }

PendingGroup Caller::create_pending_group(const PendingGroupOptions& options) const { return PendingGroup(options); }
PendingGroup Caller::create_pending_group() const { return PendingGroup(); }

std::ostream& operator<<(std::ostream& out, const Caller& c) {
  out << "<Caller " << to_string(c.state()) << (c.is_current() ? " current" : "")
      << (c.is_protected() ? " protected" : "") << " name=\"" << c.name() << "\" backend=" << to_string(c.backend());
  const std::size_t n = c.children().size();
  if (n) out << " children=" << n;
  return out << '>';
}

}  // namespace caller
