// The steps that only read.
#include <algorithm>
#include <charconv>
#include <limits>
#include <memory>
#include <unordered_set>

#include "ledger.hpp"

namespace caller::task::sqlite {

namespace {

Time time_of(std::int64_t stored) { return Time(nanoseconds(stored)); }

#define CALLER_RECORD                                                                                                 \
  "SELECT i.id, i.task_id, i.call_id, c.args, i.parent_id, i.queue, i.status, i.owner, i.priority, i.retries, "       \
  "i.created, i.changed, e.result, e.exception, i.registration_key, i.running_key, i.reroute, i.workflow_id, c.data " \
  "FROM invocation i LEFT JOIN content c ON c.number = i.number "                                                     \
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
  r.registration_key = c.text(14);
  r.running_key = c.text(15);
  r.reroute = c.integer(16) != 0;
  r.workflow_id = c.null(17) ? r.id : c.text(17);
  r.data = hashes(c.text(18));
  return r;
}

struct Bounds {  // of numbers
  std::int64_t first, below;
};

/// The numbers of one task in one status, newest first: one of those that are merged. A few at a time, so that the
/// statement is free for the next one.
struct Run {
  std::string status, task_id;
  std::vector<std::int64_t> numbers;
  std::size_t at = 0;

  bool fill(Database& db, Bounds bounds, std::int64_t most) {
    numbers.clear();
    at = 0;
    Cursor c = db.query(
        "SELECT number FROM invocation WHERE status = ?1 AND task_id = ?2 AND number < ?3 AND number >= ?5 "
        "ORDER BY number DESC LIMIT ?4",
        status, task_id, bounds.below, most, bounds.first);
    while (c.next()) numbers.push_back(c.integer(0));
    return !numbers.empty();
  }
};

/// Of the first one made then or later; they are in the order of their times.
std::int64_t number_at(Database& db, Time t) {
  std::int64_t from = db.number("SELECT min(number) FROM invocation").value_or(0);
  std::int64_t to = db.number("SELECT max(number) FROM invocation").value_or(0) + 1;
  while (from < to) {
    const std::int64_t middle = from + (to - from) / 2;
    Cursor c = db.query("SELECT number, created FROM invocation WHERE number >= ?1 ORDER BY number LIMIT 1", middle);
    if (!c.next() || c.integer(0) >= to || time_of(c.integer(1)) >= t)
      to = middle;
    else
      from = c.integer(0) + 1;
  }
  return from;
}

Bounds bounds_of(Database& db, const Selection& s) {
  Bounds out{0, std::numeric_limits<std::int64_t>::max()};
  if (!s.before.empty()) {
    const auto number = db.number("SELECT number FROM invocation WHERE id = ?1", s.before);
    if (!number) throw InvocationNotFoundError(s.before);
    out.below = *number;
  }
  if (s.from) out.first = number_at(db, *s.from);
  if (s.until) out.below = std::min(out.below, number_at(db, *s.until));
  return out;
}

/// Of a family: found by its index, looked at one by one.
std::vector<std::int64_t> family(Database& db, const Selection& s, Bounds bounds, std::size_t offset,
                                 std::size_t most) {
  const auto name_of = [](Status status) { return std::string(name(status)); };
  const std::string status = s.status ? name_of(*s.status) : std::string();
  Cursor c = !s.parent_id.empty()
                 ? db.query(
                       "SELECT number FROM invocation INDEXED BY invocation_child WHERE parent_id = ?1 AND "
                       "parent_id <> '' AND number < ?2 AND number >= ?3 AND (?4 = '' OR status = ?4) AND "
                       "(?5 = '' OR task_id = ?5) AND (?6 = '' OR coalesce(workflow_id, id) = ?6) "
                       "ORDER BY number DESC LIMIT ?7 OFFSET ?8",
                       s.parent_id, bounds.below, bounds.first, status, s.task_id, s.workflow_id,
                       static_cast<std::int64_t>(most), static_cast<std::int64_t>(offset))
                 : db.query(
                       "SELECT number FROM ("
                       "SELECT number, status, task_id FROM invocation INDEXED BY invocation_workflow "
                       "WHERE workflow_id = ?1 AND workflow_id IS NOT NULL AND number < ?2 AND number >= ?3 UNION ALL "
                       "SELECT number, status, task_id FROM invocation "
                       "WHERE id = ?1 AND workflow_id IS NULL AND number < ?2 AND number >= ?3) "
                       "WHERE (?4 = '' OR status = ?4) AND (?5 = '' OR task_id = ?5) "
                       "ORDER BY number DESC LIMIT ?6 OFFSET ?7",
                       s.workflow_id, bounds.below, bounds.first, status, s.task_id, static_cast<std::int64_t>(most),
                       static_cast<std::int64_t>(offset));
  std::vector<std::int64_t> out;
  while (c.next()) out.push_back(c.integer(0));
  return out;
}

/// Those that are texts: bytes come behind all of them, and would not be found by their text.
std::vector<std::string> tasks_in(Database& db, const std::string& status) {
  std::vector<std::string> out;
  for (bool first = true;; first = false) {
    Cursor c =
        first ? db.query("SELECT min(task_id) FROM invocation WHERE status = ?1 AND task_id < x''", status)
              : db.query("SELECT min(task_id) FROM invocation WHERE status = ?1 AND task_id > ?2 AND task_id < x''",
                         status, out.back());
    if (!c.next() || c.null(0)) return out;
    out.push_back(c.text(0));
  }
}

std::vector<std::int64_t> page(Database& db, const Selection& selection, std::size_t offset, std::size_t most) {
  const auto& task_id = selection.task_id;
  const auto status = selection.status;
  const Bounds bounds = bounds_of(db, selection);
  const auto limit = static_cast<std::int64_t>(std::min<std::size_t>(most, 1'000'000'000));
  std::vector<std::int64_t> out;
  const auto skipped = std::min<std::size_t>(offset, std::numeric_limits<std::int64_t>::max());
  if (!selection.parent_id.empty() || !selection.workflow_id.empty())
    return family(db, selection, bounds, skipped, static_cast<std::size_t>(limit));
  if (task_id.empty() && !status) {
    Cursor c = db.query(
        "SELECT number FROM invocation WHERE number < ?3 AND number >= ?4 ORDER BY number DESC LIMIT ?1 OFFSET ?2",
        limit, static_cast<std::int64_t>(skipped), bounds.below, bounds.first);
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
      if (Run run{name, task, {}}; run.fill(db, bounds, step)) runs.push_back(std::move(run));
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
    if (run.at == run.numbers.size() && !run.fill(db, {bounds.first, number}, step))
      runs.pop_back();
    else
      std::push_heap(runs.begin(), runs.end(), less);
  }
  return out;
}

}  // namespace

Status status_named(const std::string& text, const std::string& id) {
  if (const auto status = status_of(text)) return *status;
  throw UnreadableError("invocation " + id + " is stored with a status that there is not: \"" + text + "\"");
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

std::vector<InvocationRecord> read_list(Database& db, const Selection& selection, std::size_t offset,
                                        std::size_t most) {
  std::vector<InvocationRecord> out;
  for (const std::int64_t number : page(db, selection, offset, most)) {
    Cursor c = db.query(CALLER_RECORD "i.number = ?1", number);
    if (c.next() && status_of(c.text(6))) out.push_back(record_of(c));  // who asks for a damaged one gets the error
  }
  return out;
}

std::optional<std::string> read_value(Database& db, const std::string& key) {
  Cursor c = db.query("SELECT value FROM value WHERE key = ?1 AND (until IS NULL OR until > ?2)", Blob{key}, stamp());
  return c.next() ? std::optional(c.text(0)) : std::nullopt;
}

std::vector<std::pair<std::string, std::string>> read_values(Database& db, const std::string& prefix,
                                                             const std::string& after, std::size_t most) {
  std::vector<std::pair<std::string, std::string>> out;
  const bool first = after < prefix;
  Cursor c = db.query(
      "SELECT key, value FROM value WHERE key >= ?1 AND (?2 OR key > ?1) AND (until IS NULL OR until > ?3) ORDER BY "
      "key",
      Blob{first ? prefix : after}, first, stamp());
  while (out.size() < most && c.next()) {
    std::string key = c.text(0);
    if (!key.starts_with(prefix)) break;
    out.emplace_back(std::move(key), c.text(1));
  }
  return out;
}

std::optional<std::string> read_data(Database& db, const std::string& hash) {
  Cursor c =
      db.query("SELECT b.bytes FROM data d JOIN data_bytes b ON b.number = d.number WHERE d.hash = ?1", Blob{hash});
  return c.next() ? std::optional(c.text(0)) : std::nullopt;
}

std::string packed(const std::vector<std::string>& hashes) {
  std::string out;
  for (const std::string& hash : hashes) out += std::to_string(hash.size()) + ":" + hash;
  return out;
}

std::vector<std::string> hashes(const std::string& packed) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < packed.size();) {
    std::size_t size = 0;
    const auto [end, error] = std::from_chars(packed.data() + at, packed.data() + packed.size(), size);
    at = static_cast<std::size_t>(end - packed.data()) + 1;
    if (error != std::errc() || at > packed.size() || size > packed.size() - at) return {};  // written by a stranger
    out.push_back(packed.substr(at, size));
    at += size;
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
  std::unordered_set<std::string> seen;  // rows may be damaged
  while (!parent_id.empty() && seen.insert(parent_id).second) {
    Cursor c = db.query("SELECT task_id, call_id, parent_id FROM invocation WHERE id = ?1", parent_id);
    if (!c.next()) return;
    text = c.text(0) + " -> " + text;
    if (c.text(1) == call_id) throw CycleDetectedError(text);
    parent_id = c.text(2);
  }
}

}  // namespace caller::task::sqlite
