// Lists of invocations.
#include "store.hpp"

#include <algorithm>

namespace caller::task::memory {

namespace {

using ByNumber = std::map<std::uint64_t, Record*>;
const ByNumber& kin(const std::unordered_map<std::string, ByNumber>& all, const std::string& id) {
  static const ByNumber none;
  const auto it = all.find(id);
  return it == all.end() ? none : it->second;
}

}  // namespace

InvocationRecord MemoryStore::shown(const Record& r) const {
  InvocationRecord out;
  out.id = r.id();
  out.task_id = r.task_id();
  out.call_id = r.call_id();
  out.args = r.args();
  out.parent_id = r.parent_id();
  out.queue = r.queue();
  out.status = r.status;
  if (r.runner) out.owner = name(r.runner->name);
  out.priority = r.priority;
  out.retries = r.retries;
  out.created = r.created();
  out.changed = r.changed();
  out.result = r.result;
  out.registration_key = r.registration_key();
  out.running_key = r.running_key();
  out.reroute = r.reroute;
  out.workflow_id = r.workflow();
  if (r.rare) {
    out.exception = r.rare->exception;
    out.data = r.rare->data;
  }
  return out;
}

MemoryStore::ByNumber MemoryStore::members(const std::string& workflow) {
  ByNumber out = kin(members_, workflow);
  if (Record* const r = find(workflow)) out.emplace(r->number, r);
  return out;
}
MemoryStore::ByNumber MemoryStore::owned() {
  ByNumber out;
  for (const auto& [id, runner] : runners_) runner.owned.each([&](Record& r) { out.emplace(r.number, &r); });
  return out;
}
/// The first with that number or a higher one.
std::deque<Record*>::const_iterator MemoryStore::from_number(std::uint64_t number) const {
  return std::partition_point(in_order_.begin(), in_order_.end(), [&](const Record* r) { return r->number < number; });
}
/// Of the first one made then or later; they are in the order of their times.
std::uint64_t MemoryStore::number_at(Time t) const {
  const auto it =
      std::partition_point(in_order_.begin(), in_order_.end(), [&](const Record* r) { return r->created() < t; });
  return it == in_order_.end() ? last_number_ + 1 : (*it)->number;
}

Pending<std::vector<InvocationRecord>> MemoryStore::list(Selection selection, std::size_t offset, std::size_t most) {
  return with_news<std::vector<InvocationRecord>>([&](News&) {
    const Selection& s = selection;
    std::vector<InvocationRecord> out;
    // The numbers that may be meant.
    std::uint64_t first = 0, end = last_number_ + 1;
    if (!s.before.empty()) end = at(s.before).number;
    if (s.status && counts_[static_cast<std::size_t>(*s.status)] == 0) return out;
    if (s.from) first = number_at(*s.from);
    if (s.until) end = std::min(end, number_at(*s.until));
    const auto look = [&](const Record& r) {
      if ((!s.task_id.empty() && r.task_id() != s.task_id) || (s.status && r.status != *s.status) ||
          (!s.parent_id.empty() && r.parent_id() != s.parent_id) ||
          (!s.workflow_id.empty() && r.workflow() != s.workflow_id) || (s.from && r.created() < *s.from) ||
          (s.until && r.created() >= *s.until))
        return;
      if (offset > 0)
        --offset;
      else
        out.push_back(shown(r));
    };
    const auto walk = [&](const auto& records) {
      for (auto it = records.lower_bound(end); it != records.begin() && out.size() < most;) {
        --it;
        if (it->first < first) break;
        look(*it->second);
      }
    };
    if (!s.parent_id.empty())
      walk(kin(children_, s.parent_id));
    else if (!s.workflow_id.empty())
      walk(members(s.workflow_id));
    else if (s.status && is_few(*s.status))
      walk(few_[static_cast<std::size_t>(*s.status)]);
    else if (s.status && is_owned(*s.status))
      walk(owned());
    else
      for (auto it = from_number(end); it != in_order_.begin() && out.size() < most;) {
        --it;
        if ((*it)->number < first) break;
        look(**it);
      }
    return out;
  });
}

Pending<std::vector<std::pair<Status, std::size_t>>> MemoryStore::counts() {
  return with_news<std::vector<std::pair<Status, std::size_t>>>([&](News&) {
    std::vector<std::pair<Status, std::size_t>> out;
    for (std::size_t i = 0; i < kStatusCount; ++i)
      if (counts_[i]) out.emplace_back(static_cast<Status>(i), counts_[i]);
    return out;
  });
}

}  // namespace caller::task::memory
