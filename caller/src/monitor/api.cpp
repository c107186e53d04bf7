#include "api.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include <caller/error.hpp>
#include <caller/task/client_data.hpp>

namespace caller::monitor {

using nlohmann::json;
using task::InvocationRecord;

double milliseconds(task::Time at) noexcept {
  return static_cast<double>(std::chrono::duration_cast<std::chrono::microseconds>(at.time_since_epoch()).count()) /
         1000;
}
double milliseconds_now() noexcept {
  return milliseconds(std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now()));
}

std::string dumped(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

json name_json(std::string_view raw) {
  json out = {{"id", shown(raw, kShownName)}, {"key", nullptr}};
  // A piece of a path that is `.` or `..`, however written, is no piece to a browser.
  if (!raw.empty() && raw.size() <= kAddressable && raw != "." && raw != "..") out["key"] = percent_encoded(raw);
  if (raw.size() > kShownName) out["size"] = raw.size();
  return out;
}

json error_json(std::string_view name, std::string_view text) {
  return {{"error", {{"name", shown(name, kShownName)}, {"message", shown(text, 4096)}}}};
}

namespace {
/// With an ellipsis for each part that is kept apart.
std::string in_short(const std::string& stored) {
  if (!task::ClientDataStore::is_reference(stored)) return stored;
  try {
    std::string out;
    for (const task::StoredPiece& piece : task::ClientDataStore::pieces(stored)) {
      const bool json = out.empty() || out.front() == '{';
      out += !piece.apart ? piece.bytes : json ? "\"\u2026\"" : "\x63\u2026";  // as a text in that format
    }
    return out;
  } catch (const task::SerializationError&) {
    return stored;
  }
}
}  // namespace

json brief_json(const InvocationRecord& r) {
  const std::string stored = in_short(r.args);
  ValueText args = value_text(stored, stored, kPreview);
  // On one line: the page shows it in a row.
  std::string line;
  for (const char c : args.text)
    if (c != '\n')
      line += c;
    else if (!line.empty() && line.back() != ' ')
      line += ' ';
  std::string squeezed;
  for (const char c : line)
    if (c != ' ' || squeezed.empty() || squeezed.back() != ' ') squeezed += c;
  json out = name_json(r.id);
  out["task"] = name_json(r.task_id);
  out["status"] = task::name(r.status);
  out["queue"] = shown(r.queue, kShownName);
  out["priority"] = r.priority;
  out["retries"] = r.retries;
  out["owner"] = r.owner.empty() ? json(nullptr) : name_json(r.owner);
  out["parent"] = r.parent_id.empty() ? json(nullptr) : name_json(r.parent_id);
  out["workflow"] = r.workflow_id.empty() ? json(nullptr) : name_json(r.workflow_id);
  out["created"] = milliseconds(r.created);
  out["changed"] = milliseconds(r.changed);
  out["args"] = {{"text", std::move(squeezed)}, {"cut", args.cut}};
  return out;
}

Coro<Page> collected(std::shared_ptr<Api> api, task::Selection selection, std::size_t most) {
  constexpr std::size_t kAtOnce = 100;
  Page out;
  std::size_t bytes = 0;
  for (;;) {
    const std::size_t wanted = std::min(kAtOnce, most - out.records.size() + 1);
    auto asked = api->store().list(selection, 0, wanted);
    auto records = co_await api->in_time(std::move(asked));
    const bool last = records.size() < wanted;
    for (InvocationRecord& r : records) {
      if (out.records.size() == most || bytes > kMostRead) {
        out.more = true;
        co_return out;
      }
      bytes += r.args.size() + r.result.size() + r.exception.size();
      out.records.push_back(std::move(r));
    }
    if (last) co_return out;
    selection.before = out.records.back().id;
  }
}

Api::Api(std::shared_ptr<task::Store> store, std::string title, bool allow_write, std::chrono::nanoseconds store_time)
    : store_(std::move(store)), title_(std::move(title)), allow_write_(allow_write), store_time_(store_time) {}

json Api::info() const {
  json statuses = json::array();
  for (const auto& r : task::kStatusRules)
    statuses.push_back({{"name", r.name}, {"runnable", r.runnable}, {"owned", r.owned}, {"final", r.final}});
  return {{"title", shown(title_, kShownName)},
          {"store", shown(store_->description(), 1024)},
          {"allow_write", allow_write_},
          {"statuses", std::move(statuses)},
          {"now", milliseconds_now()}};
}

Coro<Api::State> Api::state(std::shared_ptr<Api> self) {
  const Question counting(self->store_->counts());
  const Question asking(self->store_->runners());
  const Question listing(self->store_->list(task::Selection{}, 0, kNewest));
  const auto counts = co_await self->in_time(counting);
  auto runners = co_await self->in_time(asking);
  const auto newest = co_await self->in_time(listing);
  json by_status = json::object();
  std::size_t total = 0;
  for (const auto& [status, n] : counts) {
    by_status[std::string(task::name(status))] = n;
    total += n;
  }
  std::ranges::sort(runners, [](const auto& a, const auto& b) { return a.last_heartbeat > b.last_heartbeat; });
  const bool more = runners.size() > kMostRunners;
  if (more) runners.resize(kMostRunners);
  json list = json::array();
  for (const auto& r : runners) {
    json one = name_json(r.id);
    one["description"] = shown(r.description, kShownName);
    one["started"] = milliseconds(r.started);
    one["last_heartbeat"] = milliseconds(r.last_heartbeat);
    one["lease_until"] = milliseconds(r.lease_until);
    list.push_back(std::move(one));
  }
  json out = {{"counts", std::move(by_status)}, {"total", total}, {"runners", std::move(list)}, {"more_runners", more}};
  State state;
  state.digest = dumped(out);
  for (const auto& r : newest) {
    state.digest += r.id;
    state.digest += static_cast<char>(r.status);
    state.digest += std::to_string(r.changed.time_since_epoch().count());
  }
  out["now"] = milliseconds_now();
  state.json = dumped(out);
  co_return state;
}

Coro<json> Api::route(std::string method, Target target, std::string body) {
  const auto& path = target.path;  // begins with "api"
  auto self = shared_from_this();
  const auto only = [&](std::string_view allowed) {
    if (method != allowed && !(allowed == "GET" && method == "HEAD"))
      throw BadRequest{405, "only " + std::string(allowed) + " is served here"};
  };
  if (path.size() == 2) {
    if (path[1] == "info") {
      only("GET");
      co_return info();
    }
    if (path[1] == "state") {
      only("GET");
      const State now = co_await state(self);
      co_return json::parse(now.json);
    }
    if (path[1] == "invocations") {
      only("GET");
      co_return co_await list_answer(self, std::move(target));
    }
    if (path[1] == "timeline") {
      only("GET");
      co_return co_await timeline_answer(self, std::move(target));
    }
    if (path[1] == "queues") {
      only("GET");
      co_return co_await queues_answer(self);
    }
    if (path[1] == "purge") {
      only("POST");
      co_return co_await purge_answer(self, std::move(body));
    }
  }
  if (path.size() == 3 && path[1] == "workflows") {
    only("GET");
    co_return co_await workflow_answer(self, path[2]);
  }
  if (path.size() >= 3 && path[1] == "invocations") {
    if (path.size() == 3) {
      only("GET");
      std::size_t most = kShownValue;
      if (const auto text = target.value("max"); !text.empty()) {
        const auto given = number(text, kMostValue);
        if (!given) throw BadRequest{400, "max must be a number of bytes, at most " + std::to_string(kMostValue)};
        most = *given;
      }
      co_return co_await invocation_answer(self, path[2], most);
    }
    if (path.size() == 4 && path[3] == "family") {
      only("GET");
      co_return co_await family_answer(self, path[2]);
    }
    if (path.size() == 4 && path[3] == "cancel") {
      only("POST");
      co_return co_await cancel_answer(self, path[2]);
    }
    if (path.size() == 4 && path[3] == "retry") {
      only("POST");
      co_return co_await retry_answer(self, path[2]);
    }
  }
  throw BadRequest{404, "there is no such address"};
}

Coro<Response> Api::handle(std::shared_ptr<Api> self, std::string method, Target target, std::string body) {
  Response out;
  json answer;
  try {
    Coro<json> work = self->route(std::move(method), std::move(target), std::move(body));
    answer = co_await std::move(work);
  } catch (const PendingCancelled&) {
    throw;
  } catch (const BadRequest& e) {
    out.status = e.status;
    answer = error_json("BadRequest", e.text);
  } catch (const task::InvocationNotFoundError& e) {
    out.status = 404;
    answer = error_json(e.name(), e.what());
  } catch (const task::InvocationStatusError& e) {
    out.status = 409;
    answer = error_json(e.name(), e.what());
  } catch (const task::TaskingError& e) {
    out.status = 503;
    answer = error_json(e.name(), e.what());
  } catch (const TimedOut&) {
    out.status = 503;
    answer = error_json("StateBackendError", "the store does not answer");
  }
  out.body = dumped(answer);
  out.body += '\n';
  co_return out;
}

}  // namespace caller::monitor
