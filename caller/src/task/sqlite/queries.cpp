// The steps that only read.
#include <algorithm>
#include <memory>

#include "ledger.hpp"

namespace caller::task::sqlite {

namespace {

Time time_of(std::int64_t stored) { return Time(nanoseconds(stored)); }

#define CALLER_RECORD                                                                                           \
  "SELECT i.id, i.task_id, i.call_id, c.args, i.parent_id, i.queue, i.status, i.owner, i.priority, i.retries, " \
  "i.created, i.changed, e.result, e.exception FROM invocation i LEFT JOIN content c ON c.number = i.number "   \
  "LEFT JOIN ended e ON e.seq = i.ending WHERE "

InvocationRecord record_of(const Cursor& c) {
  InvocationRecord r;
  r.id = c.text(0);
  r.task_id = c.text(1);
  r.call_id = c.text(2);
  r.args = c.text(3);
  r.parent_id = c.text(4);
  r.queue = c.text(5);
  r.status = status_named(c.text(6), r.id);
  r.owner = c.text(7);
  r.priority = static_cast<int>(c.integer(8));
  r.retries = static_cast<int>(c.integer(9));
  r.created = time_of(c.integer(10));
  r.changed = time_of(c.integer(11));
  r.result = c.text(12);
  r.exception = c.text(13);
  return r;
}

/// The numbers of one task in one status, newest first: one of those that are merged. A few at a time, so that the
/// statement is free for the next one.
struct Run {
  std::string status, task_id;
  std::vector<std::int64_t> numbers;
  std::size_t at = 0;

  bool fill(Database& db, std::int64_t below, std::int64_t most) {
    numbers.clear();
    at = 0;
    Cursor c = db.query(
        "SELECT number FROM invocation WHERE status = ?1 AND task_id = ?2 AND number < ?3 "
        "ORDER BY number DESC LIMIT ?4",
        status, task_id, below, most);
    while (c.next()) numbers.push_back(c.integer(0));
    return !numbers.empty();
  }
};

std::vector<std::string> tasks_in(Database& db, const std::string& status) {
  std::vector<std::string> out;
  for (bool first = true;; first = false) {
    Cursor c =
        first ? db.query("SELECT min(task_id) FROM invocation WHERE status = ?1", status)
              : db.query("SELECT min(task_id) FROM invocation WHERE status = ?1 AND task_id > ?2", status, out.back());
    if (!c.next() || c.null(0)) return out;
    out.push_back(c.text(0));
  }
}

std::vector<std::int64_t> page(Database& db, const std::string& task_id, std::optional<Status> status,
                               std::size_t offset, std::size_t most) {
  constexpr std::int64_t kAll = std::numeric_limits<std::int64_t>::max();
  const auto limit = static_cast<std::int64_t>(std::min<std::size_t>(most, 1'000'000'000));
  std::vector<std::int64_t> out;
  if (task_id.empty() && !status) {
    Cursor c = db.query("SELECT number FROM invocation ORDER BY number DESC LIMIT ?1 OFFSET ?2", limit,
                        static_cast<std::int64_t>(std::min<std::size_t>(offset, kAll)));
    while (c.next()) out.push_back(c.integer(0));
    return out;
  }
  std::vector<Run> runs;
  const std::int64_t step = std::clamp<std::int64_t>(limit, 16, 1024);
  const auto less = [](const Run& a, const Run& b) { return a.numbers[a.at] < b.numbers[b.at]; };
  for (const StatusRule& rule : kStatusRules) {
    if (status && rule.status != *status) continue;
    const std::string name(rule.name);
    const auto tasks = task_id.empty() ? tasks_in(db, name) : std::vector<std::string>(1, task_id);
    for (const std::string& task : tasks)
      if (Run run{name, task, {}}; run.fill(db, kAll, step)) runs.push_back(std::move(run));
  }
  std::make_heap(runs.begin(), runs.end(), less);
  while (!runs.empty() && out.size() < most) {
    std::pop_heap(runs.begin(), runs.end(), less);
    Run& run = runs.back();
    const std::int64_t number = run.numbers[run.at++];
    if (offset > 0)
      --offset;
    else
      out.push_back(number);
    if (run.at == run.numbers.size() && !run.fill(db, number, step))
      runs.pop_back();
    else
      std::push_heap(runs.begin(), runs.end(), less);
  }
  return out;
}

}  // namespace

Status status_named(const std::string& text, const std::string& id) {
  if (const auto status = status_of(text)) return *status;
  throw StateBackendError("invocation " + id + " is stored with a status that there is not: \"" + text + "\"");
}

InvocationRecord read_record(Database& db, const std::string& id) {
  Cursor c = db.query(CALLER_RECORD "i.id = ?1", id);
  if (!c.next()) throw InvocationNotFoundError(id);
  return record_of(c);
}

std::optional<Status> read_status(Database& db, const std::string& id) {
  Cursor c = db.query("SELECT status FROM invocation WHERE id = ?1", id);
  if (!c.next()) return std::nullopt;
  return status_named(c.text(0), id);
}

std::vector<HistoryEntry> read_history(Database& db, const std::string& id) {
  const auto number = db.number("SELECT number FROM invocation WHERE id = ?1", id);
  if (!number) throw InvocationNotFoundError(id);
  std::vector<HistoryEntry> out;
  Cursor c = db.query("SELECT status, owner, at FROM history WHERE number = ?1 ORDER BY step", *number);
  while (c.next()) out.push_back({status_named(c.text(0), id), c.text(1), time_of(c.integer(2))});
  return out;
}

std::vector<InvocationRecord> read_list(Database& db, const std::string& task_id, std::optional<Status> status,
                                        std::size_t offset, std::size_t most) {
  std::vector<InvocationRecord> out;
  for (const std::int64_t number : page(db, task_id, status, offset, most)) {
    Cursor c = db.query(CALLER_RECORD "i.number = ?1", number);
    if (c.next() && status_of(c.text(6))) out.push_back(record_of(c));  // who asks for a damaged one gets the error
  }
  return out;
}

std::vector<std::pair<Status, std::size_t>> read_counts(Database& db) {
  std::vector<std::pair<Status, std::size_t>> out;
  for (const StatusRule& rule : kStatusRules)
    if (const auto n = db.number("SELECT count(*) FROM invocation WHERE status = ?1", rule.name).value_or(0); n > 0)
      out.emplace_back(rule.status, static_cast<std::size_t>(n));
  return out;
}

std::vector<RunnerRecord> read_runners(Database& db) {
  std::vector<RunnerRecord> out;
  Cursor c = db.query(
      "SELECT id, description, started, last_heartbeat, lease_until FROM runner WHERE lease_uptime > 0 ORDER BY id");
  while (c.next())
    out.push_back({c.text(0), c.text(1), time_of(c.integer(2)), time_of(c.integer(3)), time_of(c.integer(4))});
  return out;
}

void check_cycle(Database& db, std::string parent_id, const std::string& task_id, const std::string& call_id) {
  std::string text = task_id;
  while (!parent_id.empty()) {
    Cursor c = db.query("SELECT task_id, call_id, parent_id FROM invocation WHERE id = ?1", parent_id);
    if (!c.next()) return;
    text = c.text(0) + " -> " + text;
    if (c.text(1) == call_id) throw CycleDetectedError(text);
    parent_id = c.text(2);
  }
}

}  // namespace caller::task::sqlite
