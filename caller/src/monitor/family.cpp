// Who called whom.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "api.hpp"

namespace caller::monitor {

using nlohmann::json;
using task::InvocationRecord;

namespace {

/// Parents above it that are looked for.
constexpr std::size_t kMostAbove = 32;

task::Selection children_of(const std::string& id) {
  task::Selection out;
  out.parent_id = id;
  return out;
}

}  // namespace

/// Its oldest ancestor that is still there, and everything that came of that, a generation at a time. Larger families
/// are cut: the line up to the oldest, what it called itself, and then the rest as far as there is room.
Coro<json> family_answer(std::shared_ptr<Api> api, std::string id) {
  std::vector<InvocationRecord> all;
  std::set<std::string> known;
  const auto take = [&](InvocationRecord r) {
    if (all.size() < kMostFamily && known.insert(r.id).second) all.push_back(std::move(r));
  };
  bool cut = false;
  for (std::string at = id; !at.empty() && !known.contains(at);) {
    if (all.size() == kMostAbove) {
      cut = true;
      break;
    }
    auto getting = api->store().get(at);
    const bool first = all.empty();
    bool gone = false;
    InvocationRecord record;
    try {
      record = co_await api->in_time(std::move(getting));
    } catch (const task::InvocationNotFoundError&) {
      if (first) throw;
      gone = true;  // it was purged before its children
    }
    if (gone) break;
    at = record.parent_id;
    take(std::move(record));
  }
  // First below the one that was asked for, then below those above it: these come first where there is no room for all.
  std::vector<std::string> generation{id};
  std::vector<std::string> above;
  for (std::size_t i = 1; i < all.size(); ++i) above.push_back(all[i].id);
  while (!generation.empty() || !above.empty()) {
    if (generation.empty()) {
      generation.push_back(std::move(above.front()));
      above.erase(above.begin());
    }
    std::vector<std::string> next;
    for (const std::string& one : generation) {
      if (all.size() == kMostFamily) break;
      Coro<Page> asking = collected(api, children_of(one), kMostFamily - all.size());
      Page page = co_await std::move(asking);
      cut = cut || page.more;
      for (InvocationRecord& child : page.records) {
        if (known.contains(child.id) || all.size() == kMostFamily) continue;
        next.push_back(child.id);
        take(std::move(child));
      }
    }
    generation = std::move(next);
    if (all.size() == kMostFamily) {
      cut = cut || !generation.empty() || !above.empty();
      break;
    }
  }
  json nodes = json::array();
  for (const auto& r : all) nodes.push_back(brief_json(r));
  co_return json{{"nodes", std::move(nodes)}, {"cut", cut}, {"now", milliseconds_now()}};
}

/// What belongs to one workflow, newest first.
Coro<json> workflow_answer(std::shared_ptr<Api> api, std::string id) {
  task::Selection selection;
  selection.workflow_id = id;
  Coro<Page> asking = collected(api, std::move(selection), kMostFamily);
  const Page page = co_await std::move(asking);
  json out = name_json(id);
  json items = json::array();
  for (const auto& r : page.records) items.push_back(brief_json(r));
  out["items"] = std::move(items);
  out["more"] = page.more;
  out["now"] = milliseconds_now();
  co_return out;
}

}  // namespace caller::monitor
