// Who ran what when, drawn from the histories.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "api.hpp"

namespace caller::monitor {

using nlohmann::json;
using task::HistoryEntry;
using task::InvocationRecord;
using task::Status;

namespace {

struct Bar {
  double from, to;
  Status status;
  std::size_t invocation;  // in the list
  bool open;               // it goes on
};

/// What is at work, or taken, is a runner's from its step to the next.
void add_bars(std::map<std::string, std::vector<Bar>>& lanes, const std::vector<HistoryEntry>& history, std::size_t of,
              double since, double now) {
  for (std::size_t i = 0; i < history.size(); ++i) {
    const HistoryEntry& step = history[i];
    if (!task::is_owned(step.status) || step.owner.empty()) continue;
    const bool open = i + 1 == history.size();
    const double from = milliseconds(step.at), to = open ? std::max(now, from) : milliseconds(history[i + 1].at);
    if (to < since) continue;
    lanes[step.owner].push_back({from, std::max(from, to), step.status, of, open});
  }
}

}  // namespace

/// Of the newest invocations only: those beyond kMostTimeline are left out, and it says so.
Coro<json> timeline_answer(std::shared_ptr<Api> api, Target target) {
  std::size_t seconds = 300;
  if (const auto text = target.value("seconds"); !text.empty()) {
    const auto given = number(text, 100'000'000);
    if (!given || *given == 0) throw BadRequest{400, "seconds must be a number, and more than 0"};
    seconds = *given;
  }
  const Question asking(api->store().runners());
  Coro<Page> listing = collected(api, {}, kMostTimeline);
  Page page = co_await std::move(listing);
  const auto runners = co_await api->in_time(asking);
  std::vector<InvocationRecord>& records = page.records;
  const double now = milliseconds_now(), since = now - static_cast<double>(seconds) * 1000;
  std::erase_if(records,
                [&](const InvocationRecord& r) { return milliseconds(r.changed) < since && task::is_final(r.status); });

  // All are asked for at once: a store at the other end of a line answers them together.
  std::vector<Question<std::vector<HistoryEntry>>> asked;
  asked.reserve(records.size());
  for (const auto& r : records) asked.emplace_back(api->store().history(r.id));
  std::map<std::string, std::vector<Bar>> lanes;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto history = co_await api->in_time(asked[i]);
    add_bars(lanes, history, i, since, now);
  }

  json list = json::array();
  for (auto& [owner, bars] : lanes) {
    std::ranges::sort(bars, {}, &Bar::from);
    json one = name_json(owner);
    const auto known = std::ranges::find(runners, owner, &task::RunnerRecord::id);
    one["description"] = known == runners.end() ? json(nullptr) : json(shown(known->description, kShownName));
    json drawn = json::array();
    for (const Bar& b : bars)
      drawn.push_back(
          {{"from", b.from}, {"to", b.to}, {"status", task::name(b.status)}, {"of", b.invocation}, {"open", b.open}});
    one["bars"] = std::move(drawn);
    list.push_back(std::move(one));
  }
  json invocations = json::array();
  for (const auto& r : records) {
    json one = name_json(r.id);
    one["task"] = shown(r.task_id, kShownName);
    one["status"] = task::name(r.status);
    invocations.push_back(std::move(one));
  }
  co_return json{{"lanes", std::move(list)},
                 {"invocations", std::move(invocations)},
                 {"cut", page.more},
                 {"from", since},
                 {"now", now}};
}

}  // namespace caller::monitor
