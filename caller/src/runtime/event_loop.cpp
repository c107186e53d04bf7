// Which event loop belongs to which Caller.
#include <caller/detail/event_loop.hpp>

#include <caller/error.hpp>
#include <caller/host.hpp>

#include "core.hpp"

namespace caller::detail {
namespace {

/// Never destroyed: threads may outlive static destruction.
struct LoopRegistry {
  std::mutex mutex;
  std::unordered_map<const void*, Core*> cores;
};
LoopRegistry& loop_registry() {
  static auto* r = new LoopRegistry;
  return *r;
}

}  // namespace

EventLoop::~EventLoop() = default;

void register_loop(const void* native, Core& core) {
  LoopRegistry& r = loop_registry();
  const std::lock_guard lock(r.mutex);
  r.cores.emplace(native, &core);
}

void unregister_loop(const void* native) noexcept {
  LoopRegistry& r = loop_registry();
  const std::lock_guard lock(r.mutex);
  r.cores.erase(native);
}

Core* core_of_loop(const void* native) noexcept {
  Core* const here = this_thread().core;
  if (here && here->driver().has(native)) return here;  // nearly always
  LoopRegistry& r = loop_registry();
  const std::lock_guard lock(r.mutex);
  const auto it = r.cores.find(native);
  return it == r.cores.end() ? nullptr : it->second;
}

void check_backend(Backend backend, const HostLoop* host) {
  if (backend == Backend::uv && !uv_built_in())
    throw Error(Errc::unsupported_backend, "the backend uv: Caller was built without libuv");
  if (host && backend != Backend::manual && !host->native(backend)) {
    throw Error(Errc::unsupported_backend,
                std::string("the backend ") + to_string(backend) + ": a guest has the loop of its host only");
  }
}

void* native_loop(Core& core, Backend which, MakeLoop make) {
  check_backend(which, core.options.host.get());
  if (core.state() != CallerState::stopped)
    if (void* loop = core.driver().native(core, which, make)) return loop;
  throw CallerStopped(std::string("the event loop of the Caller \"") + core.name + '"');
}

}  // namespace caller::detail
