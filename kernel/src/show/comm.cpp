#include <caller/kernel/comm.hpp>

#include <caller/kernel/comm_host.hpp>

#include <atomic>
#include <map>
#include <mutex>
#include <stdexcept>

namespace caller {
using kernel::CommCall;
using kernel::CommKind;
using kernel::detail::TargetHandler;

struct Comm::State {
  std::string id, target;
  std::atomic<bool> open{false};
  std::mutex mutex;  // guards the handlers
  std::shared_ptr<const CommHandler> on_message, on_close;
};

namespace {

constexpr std::size_t kLongestId = 55;  // what xeus, which shares the registry, can hold
const std::string kNone;

using StatePtr = std::shared_ptr<Comm::State>;

struct Registry {
  std::mutex mutex;
  std::map<std::string, StatePtr> comms;
  std::map<std::string, std::shared_ptr<const TargetHandler>> targets;
};

Registry& registry() {
  static Registry* const all = new Registry;  // never destroyed: variables of cells may outlive everything else
  return *all;
}

std::atomic<kernel::CommHost*> installed{nullptr};

bool enter(const StatePtr& state) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  return r.comms.emplace(state->id, state).second;
}

// False: somebody else has closed it.
bool leave(const StatePtr& state) {
  if (!state->open.exchange(false)) return false;
  {
    Registry& r = registry();
    const std::lock_guard lock(r.mutex);
    r.comms.erase(state->id);
  }
  if (auto* host = kernel::comm_host()) host->removed(state->id);
  return true;
}

StatePtr find(const std::string& id) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  const auto it = r.comms.find(id);
  return it == r.comms.end() ? nullptr : it->second;
}

CommCall call_of(const std::shared_ptr<const CommHandler>& handler, CommMessage message) {
  CommCall call;
  if (!handler) return call;
  // What is called keeps handler and message alive as long as it runs, also when the handler replaces itself.
  const auto m = std::make_shared<const CommMessage>(std::move(message));
  if (handler->awaiting)
    call.awaiting = [handler, m]() -> Coro<void> {
      return [](std::shared_ptr<const CommHandler> h, std::shared_ptr<const CommMessage> text) -> Coro<void> {
        co_await h->awaiting(*text);
      }(handler, m);
    };
  else if (handler->plain)
    call.plain = [handler, m] { handler->plain(*m); };
  return call;
}

Coro<void> run_target(std::shared_ptr<const TargetHandler> handler, Comm comm, CommMessage message) {
  std::exception_ptr error;
  try {
    co_await handler->awaiting(comm, message);
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    comm.close();
    std::rethrow_exception(error);
  }
}

CommCall open_call(const std::string& id, const std::string& target, CommMessage message,
                   const std::shared_ptr<const TargetHandler>& handler) {
  auto* const host = kernel::comm_host();
  auto state = std::make_shared<Comm::State>();
  state->id = id;
  state->target = target;
  CommCall call;
  if (!host || id.empty() || id.size() > kLongestId || !enter(state)) {
    if (host && !find(id)) host->publish(CommKind::close, id, target, {});
    return call;
  }
  state->open = true;
  host->added(id, target);
  const Comm comm(state);
  if (handler->awaiting)
    call.awaiting = [handler, comm, m = std::move(message)] { return run_target(handler, comm, m); };
  else
    call.plain = [handler, comm, m = std::move(message)] {
      try {
        handler->plain(comm, m);
      } catch (...) {
        comm.close();
        throw;
      }
    };
  return call;
}

}  // namespace

Comm::Comm(const std::string& target, CommOptions options) : state_(std::make_shared<State>()) {
  auto* const host = kernel::comm_host();
  state_->id = options.id.empty() && host ? host->new_id() : std::move(options.id);
  state_->target = target;
  state_->on_message = std::make_shared<const CommHandler>(std::move(options.on_message));
  state_->on_close = std::make_shared<const CommHandler>(std::move(options.on_close));
  if (!host) return;
  if (state_->id.size() > kLongestId) throw std::invalid_argument("comm: the id " + state_->id + " is too long");
  if (!enter(state_)) throw std::invalid_argument("comm: there is one of the id " + state_->id);
  state_->open = true;
  host->added(state_->id, target);
  try {
    host->publish(CommKind::open, state_->id, target, options.message);
  } catch (...) {
    leave(state_);
    throw;
  }
}

const std::string& Comm::id() const noexcept { return state_ ? state_->id : kNone; }
const std::string& Comm::target() const noexcept { return state_ ? state_->target : kNone; }
bool Comm::is_open() const noexcept { return state_ && state_->open.load(); }

bool Comm::send(const CommMessage& message) const {
  auto* const host = kernel::comm_host();
  if (!host || !is_open()) return false;
  host->publish(CommKind::message, state_->id, state_->target, message);
  return true;
}

bool Comm::close(const CommMessage& message) const {
  auto* const host = kernel::comm_host();
  if (!state_ || !leave(state_)) return false;
  if (host) host->publish(CommKind::close, state_->id, state_->target, message);
  return true;
}

void Comm::on_message(CommHandler handler) const {
  if (!state_) return;
  auto h = std::make_shared<const CommHandler>(std::move(handler));
  const std::lock_guard lock(state_->mutex);
  state_->on_message.swap(h);
}

void Comm::on_close(CommHandler handler) const {
  if (!state_) return;
  auto h = std::make_shared<const CommHandler>(std::move(handler));
  const std::lock_guard lock(state_->mutex);
  state_->on_close.swap(h);
}

void kernel::detail::set_comm_target(const std::string& name, TargetHandler handler) {
  auto h = std::make_shared<const TargetHandler>(std::move(handler));
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  r.targets[name].swap(h);
}

bool remove_comm_target(const std::string& name) {
  std::shared_ptr<const TargetHandler> old;  // goes after the lock, as its destructor is the user's code
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  const auto it = r.targets.find(name);
  if (it == r.targets.end()) return false;
  old = std::move(it->second);
  r.targets.erase(it);
  return true;
}

namespace kernel {

CommHost::~CommHost() = default;
void set_comm_host(CommHost* host) noexcept { installed.store(host); }
CommHost* comm_host() noexcept { return installed.load(); }

std::optional<CommCall> comm_call(CommKind kind, const std::string& id, const std::string& target,
                                  CommMessage message) {
  if (kind == CommKind::open) {
    std::shared_ptr<const TargetHandler> handler;
    {
      Registry& r = registry();
      const std::lock_guard lock(r.mutex);
      if (const auto it = r.targets.find(target); it != r.targets.end()) handler = it->second;
    }
    if (!handler) return std::nullopt;
    return open_call(id, target, std::move(message), handler);
  }
  const StatePtr state = find(id);
  if (!state) return std::nullopt;
  if (kind == CommKind::close && !leave(state)) return CommCall{};
  std::shared_ptr<const CommHandler> handler;
  {
    const std::lock_guard lock(state->mutex);
    handler = kind == CommKind::close ? state->on_close : state->on_message;
  }
  return call_of(handler, std::move(message));
}

}  // namespace kernel
}  // namespace caller
