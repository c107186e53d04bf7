// Which Caller belongs to which thread. Never destroyed: threads may outlive static destruction.
#include <pthread.h>
#include <algorithm>
#include <cstdio>
#include <sstream>

#include "core.hpp"

namespace caller::detail {
namespace {

struct Registry {
  std::mutex mutex;
  std::unordered_map<std::thread::id, Core*> by_thread;
  std::vector<Core*> all;  // borrowed: a Core leaves before it ends
};
Registry& registry() {
  static auto* r = new Registry;
  return *r;
}

// The thread that loads the library runs main() in every ordinary process.
const std::thread::id loading_thread = std::this_thread::get_id();

}  // namespace

thread_local constinit ThreadState thread_state{};
ThreadState& thread_state_of_library() noexcept { return thread_state; }
std::thread::id main_thread_id() noexcept { return loading_thread; }

void registry_add_unbound(Core& core) {
  std::lock_guard lock(registry().mutex);
  registry().all.push_back(&core);
}

void registry_add(Core& core, std::thread::id thread) {
  std::lock_guard lock(registry().mutex);
  registry().by_thread.emplace(thread, &core);
}

void registry_remove(Core& core) noexcept {
  std::lock_guard lock(registry().mutex);
  std::erase(registry().all, &core);
  std::erase_if(registry().by_thread, [&](const auto& entry) { return entry.second == &core; });
}

Core* registry_find(std::thread::id thread) {
  std::lock_guard lock(registry().mutex);
  auto it = registry().by_thread.find(thread);
  if (it == registry().by_thread.end()) return nullptr;
  it->second->retain();
  return it->second;
}

std::string describe_this_thread() {
  char name[32] = "";
  pthread_getname_np(pthread_self(), name, sizeof name);
  std::ostringstream out;
  out << "thread " << std::this_thread::get_id() << " (\"" << name << "\")";
  return out.str();
}

}  // namespace caller::detail

namespace caller {

std::vector<Caller> Caller::all_callers() {
  auto& r = detail::registry();
  std::lock_guard lock(r.mutex);
  std::vector<Caller> out;
  out.reserve(r.all.size());
  for (auto* core : r.all) {
    detail::retain_core(*core, false);
    out.emplace_back(Adopt{}, *core, false);
  }
  return out;
}

}  // namespace caller
