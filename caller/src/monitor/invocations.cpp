// Lists, single invocations, and what can be done to them.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include <caller/error.hpp>
#include <caller/task/client_data.hpp>

#include "api.hpp"

namespace caller::monitor {

using nlohmann::json;
using task::InvocationRecord;
using task::Status;

namespace {

/// A value as it was given, as far as it is shown.
struct Whole {
  std::string bytes;
  std::size_t size = 0;
};

/// With what is kept apart of it. Of one that is too large to be read the size is the least.
Coro<Whole> whole(std::shared_ptr<Api> api, std::string stored, std::size_t most) {
  const std::size_t kept = std::max<std::size_t>(most, kMostDecoded) + 1;
  Whole out;
  std::vector<task::StoredPiece> pieces;
  try {
    pieces = task::ClientDataStore::pieces(stored);
  } catch (const task::SerializationError&) {  // it is shown as it is stored
    pieces.push_back({std::move(stored)});
  }
  std::size_t parts = 0;
  for (task::StoredPiece& piece : pieces) {
    if (piece.apart) {
      if (++parts > kMostParts || out.size > kMostRead) {
        ++out.size;
        break;
      }
      Pending<std::optional<std::string>> asked = api->store().data(piece.bytes);
      std::optional<std::string> content = co_await api->in_time(std::move(asked));
      if (!content) {
        out.bytes = "the data " + shown(piece.bytes, kShownName) + " is not in the store any more";
        out.size = out.bytes.size();
        break;
      }
      piece.bytes = std::move(*content);
    }
    out.size += piece.bytes.size();
    out.bytes.append(piece.bytes, 0, kept - std::min(kept, out.bytes.size()));
    piece.bytes = {};
  }
  co_return out;
}

json value_json(const Whole& value, std::string_view like, std::size_t most) {
  ValueText v = value_text(value.bytes, like, most);
  const bool cut = v.cut || value.size > value.bytes.size();
  return {{"text", std::move(v.text)}, {"format", v.format}, {"cut", cut}, {"size", value.size}};
}

json exception_json(const task::ExceptionRecord& e, std::size_t most) {
  json details = json::array();
  for (const auto& [key, value] : e.details) {
    if (details.size() == 32) break;
    details.push_back({shown(key, kShownName), shown(value, 4096)});
  }
  return {{"type", shown(e.type, kShownName)}, {"message", shown(e.message, most)}, {"details", std::move(details)}};
}

/// The exception and its causes, outermost first; of one that cannot be read, its bytes.
json error_chain(const std::string& stored, std::size_t most) {
  try {
    json chain = json::array();
    const auto first = task::ExceptionRecord::from_json(stored);
    chain.push_back(exception_json(first, most));
    for (auto cause = first.cause; cause && chain.size() < 17; cause = cause->cause)
      chain.push_back(exception_json(*cause, most));
    return chain;
  } catch (const task::TaskingError&) {
    return json::array({{{"type", "an exception that cannot be read"},
                         {"message", value_text(stored, {}, most).text},
                         {"details", json::array()}}});
  }
}

std::string new_id() {
  std::random_device device;
  std::string out;
  for (int i = 0; i < 32; ++i) {
    if (i == 8 || i == 12 || i == 16 || i == 20) out += '-';
    const unsigned digit = i == 12 ? 4 : i == 16 ? 8 + device() % 4 : device() % 16;
    out += "0123456789abcdef"[digit];
  }
  return out;
}

}  // namespace

Coro<json> list_answer(std::shared_ptr<Api> api, Target target) {
  task::Selection selection;
  selection.task_id = target.value("task");
  selection.workflow_id = target.value("workflow");
  selection.parent_id = target.value("parent");
  selection.before = target.value("before");
  if (const auto text = target.value("status"); !text.empty()) {
    selection.status = task::status_of(text);
    if (!selection.status) throw BadRequest{400, "there is no status " + shown(text, 64)};
  }
  std::size_t offset = 0, limit = kPage;
  if (const auto text = target.value("offset"); !text.empty()) {
    const auto given = number(text, 100'000'000);
    if (!given) throw BadRequest{400, "offset must be a number"};
    offset = *given;
  }
  if (const auto text = target.value("limit"); !text.empty()) {
    const auto given = number(text, kMostPage);
    if (!given || *given == 0) throw BadRequest{400, "limit must be a number from 1 to " + std::to_string(kMostPage)};
    limit = *given;
  }
  // The first page costs no more than kMostRead, later ones what the store passes over.
  Page page;
  if (offset == 0) {
    Coro<Page> asking = collected(api, std::move(selection), limit);
    page = co_await std::move(asking);
  } else {
    auto asked = api->store().list(std::move(selection), offset, limit + 1);
    page.records = co_await api->in_time(std::move(asked));
    page.more = page.records.size() > limit;
    if (page.more) page.records.pop_back();
  }
  json items = json::array();
  for (const auto& r : page.records) items.push_back(brief_json(r));
  co_return json{{"items", std::move(items)},
                 {"offset", offset},
                 {"limit", limit},
                 {"more", page.more},
                 {"now", milliseconds_now()}};
}

Coro<json> invocation_answer(std::shared_ptr<Api> api, std::string id, std::size_t most) {
  const Question getting(api->store().get(id));
  const Question asking(api->store().history(id));
  const InvocationRecord record = co_await api->in_time(getting);
  const auto history = co_await api->in_time(asking);
  json out = brief_json(record);
  out["call_id"] = shown(record.call_id, kShownName);
  Coro<Whole> of_arguments = whole(api, record.args, most);
  const Whole arguments = co_await std::move(of_arguments);
  out["arguments"] = value_json(arguments, arguments.bytes, most);
  out["result"] = nullptr;
  if (record.status == Status::success) {
    Coro<Whole> of_result = whole(api, record.result, most);
    const Whole result = co_await std::move(of_result);
    out["result"] = value_json(result, arguments.bytes, most);
  }
  out["error"] = record.exception.empty() ? json(nullptr) : error_chain(record.exception, most);
  json steps = json::array();
  constexpr std::size_t kMostSteps = 1000;
  const std::size_t skipped = history.size() > kMostSteps ? history.size() - kMostSteps : 0;
  for (std::size_t i = skipped; i < history.size(); ++i)
    steps.push_back({{"status", task::name(history[i].status)},
                     {"owner", history[i].owner.empty() ? json(nullptr) : name_json(history[i].owner)},
                     {"at", milliseconds(history[i].at)}});
  out["history"] = std::move(steps);
  out["history_skipped"] = skipped;
  out["now"] = milliseconds_now();
  co_return out;
}

/// How many wait in each queue. Of more than a thousand of a status only the newest are looked at: then it is at least
/// so many.
Coro<json> queues_answer(std::shared_ptr<Api> api) {
  constexpr std::size_t kLooked = 1000;
  auto counting = api->store().counts();
  const auto counts = co_await api->in_time(std::move(counting));
  std::map<std::string, std::map<std::string, std::size_t>> queues;
  bool all = true;
  for (const auto& [status, n] : counts) {
    if (n == 0 || task::is_final(status) || task::is_owned(status)) continue;
    task::Selection selection;
    selection.status = status;
    Coro<Page> asking = collected(api, std::move(selection), kLooked);
    const Page page = co_await std::move(asking);
    if (page.more) all = false;
    for (const auto& r : page.records) ++queues[shown(r.queue, kShownName)][std::string(task::name(status))];
  }
  json list = json::array();
  for (const auto& [name, by_status] : queues) list.push_back({{"name", name}, {"waiting", by_status}});
  co_return json{{"queues", std::move(list)}, {"all", all}};
}

Coro<json> cancel_answer(std::shared_ptr<Api> api, std::string id) {
  auto asked = api->store().cancel(id);
  const bool cancelled = co_await api->in_time(std::move(asked));
  co_return json{{"cancelled", cancelled}};
}

/// What is final stays as it is: the same call is stored anew.
Coro<json> retry_answer(std::shared_ptr<Api> api, std::string id) {
  auto getting = api->store().get(id);
  const InvocationRecord record = co_await api->in_time(std::move(getting));
  if (!task::is_final(record.status))
    throw BadRequest{409, "it is " + std::string(task::name(record.status)) + ", and will run without being asked"};
  std::vector<task::NewInvocation> list;
  list.push_back(task::again(record, new_id()));
  auto adding = api->store().add(std::move(list));
  const auto added = co_await api->in_time(std::move(adding));
  if (added.empty()) throw task::StateBackendError("the store took the call and said nothing");
  if (added.front().refused) throw BadRequest{409, "another call with the same key waits already"};
  co_return name_json(added.front().id);
}

Coro<json> purge_answer(std::shared_ptr<Api> api, std::string body) {
  const json asked = json::parse(body, nullptr, false);
  std::optional<std::chrono::nanoseconds> older_than;
  const bool one = asked.is_object() && asked.size() == 1;
  if (one && asked.contains("older_than_seconds") && asked["older_than_seconds"].is_number_unsigned() &&
      asked["older_than_seconds"].get<std::uint64_t>() <= 1'000'000'000)
    older_than = std::chrono::seconds(asked["older_than_seconds"].get<std::int64_t>());
  else if (!(one && asked.contains("everything") && asked["everything"] == true))
    throw BadRequest{400, R"(the body must be {"older_than_seconds": N}, or {"everything": true})"};
  auto purging = api->store().purge(older_than);
  const std::size_t purged = co_await api->in_time(std::move(purging));
  co_return json{{"purged", purged}};
}

}  // namespace caller::monitor
