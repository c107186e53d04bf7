#include <caller/task/family.hpp>

#include <algorithm>
#include <functional>
#include <limits>
#include <unordered_map>
#include <utility>

#include <caller/caller.hpp>

namespace caller::task {

Coro<std::vector<Relative>> async_family(Store& store, std::string id, std::size_t most, std::size_t histories) {
  constexpr std::size_t kPage = 500;
  const Pending<InvocationRecord> asked = store.get(id);
  InvocationRecord first = co_await asked;
  std::unordered_map<std::string, std::vector<InvocationRecord>> children;
  if (most == 0) most = std::numeric_limits<std::size_t>::max();
  bool more = true;
  Selection since;
  since.from = first.created;
  for (std::size_t seen = 0; more && seen < most;) {
    const Pending<std::vector<InvocationRecord>> listing = store.list(since, 0, std::min(kPage, most - seen));
    std::vector<InvocationRecord> page = co_await listing;
    seen += page.size();
    more = page.size() == kPage;
    if (more) since.before = page.back().id;
    for (InvocationRecord& r : page)
      if (!r.parent_id.empty() && r.id != id) children[r.parent_id].push_back(std::move(r));
  }
  std::vector<Relative> out;
  std::vector<Relative> waiting;  // the next one last
  waiting.push_back({std::move(first), 0, {}});
  while (!waiting.empty()) {
    Relative one = std::move(waiting.back());
    waiting.pop_back();
    const auto found = children.find(one.record.id);
    if (found != children.end()) {
      // As they were listed, newest first: so the oldest is taken next.
      for (InvocationRecord& child : found->second) waiting.push_back({std::move(child), one.depth + 1, {}});
      children.erase(found);
    }
    out.push_back(std::move(one));
  }
  for (std::size_t i = 0; i < std::min(histories, out.size()); ++i) {
    const Pending<std::vector<HistoryEntry>> entries = store.history(out[i].record.id);
    out[i].history = co_await entries;
  }
  co_return out;
}

std::vector<Relative> family(Store& store, const std::string& id, std::size_t most, std::size_t histories) {
  return call_async_from_sync([&] { return async_family(store, id, most, histories); });
}

}  // namespace caller::task
