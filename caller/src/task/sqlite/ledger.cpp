// The steps that write: each change of state is made where the row still has the status and the owner that were read.
#include "ledger.hpp"

#include <time.h>

#include <algorithm>
#include <fstream>
#include <unordered_set>

#include "../queues.hpp"
#include "../watch.hpp"

namespace caller::task::sqlite {

namespace {

constexpr nanoseconds kFirstLease = std::chrono::seconds(10);  // of a runner that has not told of itself yet
constexpr std::int64_t kPurgedAtOnce = 2000, kDroppedAtOnce = 100;
constexpr std::int64_t kChangesKept = 1000;  // of values: more at once are told as one of any

bool waits_to_be_taken(Status s) {
  return is_runnable(s) || s == Status::scheduled || s == Status::concurrency_controlled;
}
std::int64_t stamp() { return now().time_since_epoch().count(); }

}  // namespace

Time now() { return std::chrono::time_point_cast<nanoseconds>(std::chrono::system_clock::now()); }

std::int64_t uptime() {
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

const std::string& boot() {
  static const std::string id = [] {
    std::string line;
    std::ifstream in("/proc/sys/kernel/random/boot_id");
    std::getline(in, line);
    return line;
  }();
  return id;
}

#define CALLER_ROW                                                                                                \
  "SELECT number, id, task_id, status, owner, retries, steps, running_key, reroute, cancel, waiters, waits, due " \
  "FROM invocation WHERE "

struct Ledger::Row {
  std::int64_t number;
  std::string id, task_id, status_text;
  Status status;
  std::string owner;
  bool has_owner;
  std::int64_t retries, steps;
  std::string running_key;  // empty: none
  bool reroute, cancel;
  std::int64_t waiters, waits;
  std::optional<std::int64_t> due;
};

Ledger::Row Ledger::row_of(const Cursor& c) {
  Row r;
  r.number = c.integer(0);
  r.id = c.text(1);
  r.task_id = c.text(2);
  r.status_text = c.text(3);
  r.status = status_named(r.status_text, r.id);
  r.owner = c.text(4);
  r.has_owner = !c.null(4);
  r.retries = c.integer(5);
  r.steps = c.integer(6);
  r.running_key = c.text(7);
  r.reroute = c.integer(8) != 0;
  r.cancel = c.integer(9) != 0;
  r.waiters = c.integer(10);
  r.waits = c.integer(11);
  r.due = c.maybe(12);
  return r;
}

Ledger::Row Ledger::by_id(const std::string& id) {
  Cursor c = db_.query(CALLER_ROW "id = ?1", id);
  if (!c.next()) throw InvocationNotFoundError(id);
  return row_of(c);
}

std::optional<Ledger::Row> Ledger::by_number(std::int64_t number) {
  Cursor c = db_.query(CALLER_ROW "number = ?1", number);
  if (!c.next() || !status_of(c.text(3))) return std::nullopt;
  return row_of(c);
}

void News::append(const News& more) {
  ended.insert(ended.end(), more.ended.begin(), more.ended.end());
  cancelled.insert(cancelled.end(), more.cancelled.begin(), more.cancelled.end());
  values.insert(values.end(), more.values.begin(), more.values.end());
  work |= more.work;
  due |= more.due;
  forgotten |= more.forgotten;
}

void Ledger::begin() {
  stored_ticket_ = ticket_ = db_.number("SELECT ticket FROM state").value_or(0);
  read_watches();
}
void Ledger::end() {
  if (ticket_ != stored_ticket_) db_.run("UPDATE state SET ticket = ?1", ticket_);
}

// ---- registering ----

std::vector<Added> Ledger::add(const std::vector<NewInvocation>& calls, News& news) {
  std::vector<Added> out(calls.size());
  for (std::size_t i = 0; i < calls.size(); ++i) {
    if (!calls[i].refuse_other_call) continue;
    if (const auto kind = waiting(calls[i]); kind && kind->call_id != calls[i].call_id) {
      out[i] = known(*kind, true);
      return out;
    }
  }
  for (std::size_t i = 0; i < calls.size(); ++i) out[i] = add_one(calls[i], news);
  return out;
}

Added Ledger::add_one(const NewInvocation& call, News& news) {
  if (const auto kind = waiting(call)) return known(*kind, false);
  insert(call, news);
  Added out;
  out.id = call.id;
  return out;
}

/// None if it is there itself.
std::optional<Ledger::Kind> Ledger::waiting(const NewInvocation& call) {
  if (call.registration_key.empty() || db_.number("SELECT 1 FROM invocation WHERE id = ?1", call.id))
    return std::nullopt;
  Cursor c = db_.query(
      "SELECT number, id, call_id, status FROM invocation WHERE registration_key = ?1 AND owner IS NULL AND "
      "ending IS NULL ORDER BY number",
      call.registration_key);
  while (c.next())
    if (const auto status = status_of(c.text(3)); status && waits_to_be_taken(*status))
      return Kind{c.integer(0), c.text(1), c.text(2)};
  return std::nullopt;
}

Added Ledger::known(const Kind& kind, bool refused) {
  Cursor c = db_.query("SELECT args FROM content WHERE number = ?1", kind.number);
  return {kind.id, true, refused, kind.call_id, c.next() ? c.text(0) : std::string()};
}

/// Unless it is there.
void Ledger::insert(const NewInvocation& call, News& news) {
  std::string workflow = call.workflow_id;
  if (workflow.empty() && !call.parent_id.empty()) {
    Cursor c = db_.query("SELECT coalesce(workflow_id, id) FROM invocation WHERE id = ?1", call.parent_id);
    if (c.next()) workflow = c.text(0);
  }
  if (workflow == call.id) workflow.clear();
  const std::int64_t at = stamp();
  const bool later = call.delay > nanoseconds::zero();
  const Status status = later ? Status::scheduled : Status::registered;
  {
    Cursor c = db_.query(
        "INSERT INTO invocation(id, task_id, call_id, parent_id, queue, priority, registration_key, running_key, "
        "reroute, created, status, steps, changed, ticket, due, workflow_id) "
        "VALUES(?1, ?2, ?3, ?4, ?5, ?6, nullif(?7, ''), nullif(?8, ''), ?9, ?10, ?11, 1, ?10, ?12, ?13, "
        "nullif(?14, '')) ON CONFLICT(id) DO NOTHING",
        call.id, call.task_id, call.call_id, call.parent_id, call.queue, call.priority, call.registration_key,
        call.running_key, call.reroute, at, name(status), later ? std::nullopt : std::optional(++ticket_),
        later ? std::optional<std::int64_t>(at + call.delay.count()) : std::nullopt, workflow);
    c.next();
    if (db_.changes() == 0) return;
  }
  const std::int64_t number = db_.last_row();
  if (call.data.empty()) {
    db_.run("INSERT INTO content(number, args) VALUES(?1, ?2)", number, Blob{call.args});
  } else {
    std::vector<std::string> named;
    name_data(call.data, named);
    db_.run("INSERT INTO content(number, args, data) VALUES(?1, ?2, ?3)", number, Blob{call.args}, Blob{packed(named)});
  }
  note(number, 0, status, {}, at);
  if (!watches_.empty()) keep_change(call.id, call.task_id, status, at, news);
  (later ? news.due : news.work) = true;
}

// ---- changes of state ----

void Ledger::note(std::int64_t number, std::int64_t step, Status status, const std::string& owner, std::int64_t at) {
  db_.run("INSERT INTO history VALUES(?1, ?2, ?3, nullif(?4, ''), ?5)", number, step, name(status), owner, at);
}

/// One that is allowed. `with`: its result or error, and for how long it waits.
void Ledger::set(Row& r, Status to, const std::string& owner, News& news, const Change* with) {
  const std::int64_t at = stamp();
  const bool leaves_runner = r.has_owner && !is_owned(to);
  int changed;
  std::optional<std::int64_t> due;
  if (is_owned(to) && r.has_owner && r.owner == owner) {  // which no index but one of status knows
    changed = db_.run(
        "UPDATE invocation SET status = ?1, steps = ?2, changed = ?3 WHERE number = ?4 AND status = ?5 AND owner = ?6",
        name(to), r.steps + 1, at, r.number, r.status_text, owner);
  } else {
    std::optional<std::int64_t> ticket, held, taken, ending;
    if (is_runnable(to) && !r.cancel) {
      if (with && with->delay > nanoseconds::zero()) {
        due = at + with->delay.count();
        news.due = true;
      } else {
        ticket = ++ticket_;
        news.work = true;
      }
    }
    if (to == Status::concurrency_controlled) held = ++ticket_;
    if (is_owned(to)) {
      taken = uptime();
      know_runner(owner);
    }
    if (is_final(to)) {
      static const std::string kNothing;
      db_.run("INSERT INTO ended(number, id, at, result, exception) VALUES(?1, ?2, ?3, ?4, ?5)", r.number, r.id, at,
              Blob{with && to == Status::success ? with->result : kNothing},
              Blob{with && to == Status::failed ? with->exception : kNothing});
      ending = db_.last_row();
      news.ended.push_back(r.id);
    }
    const std::optional<std::string_view> new_owner =
        is_owned(to) ? std::optional<std::string_view>(owner) : std::nullopt;
    changed = db_.run(
        "UPDATE invocation SET status = ?1, owner = ?2, retries = ?3, steps = ?4, changed = ?5, ticket = ?6, "
        "held = ?7, due = ?8, taken = ?9, ending = ?10 WHERE number = ?11 AND status = ?12 AND owner IS ?13",
        name(to), new_owner, r.retries + (to == Status::retry), r.steps + 1, at, ticket, held, due, taken, ending,
        r.number, r.status_text, r.has_owner ? std::optional<std::string_view>(r.owner) : std::nullopt);
  }
  if (changed != 1) throw InvocationStatusRaceConditionError(r.id, r.status, to);
  note(r.number, r.steps, to, is_owned(to) ? owner : std::string(), at);
  if (!watches_.empty()) keep_change(r.id, r.task_id, to, at, news);
  r.status = to;
  r.status_text = name(to);
  r.owner = is_owned(to) ? owner : std::string();
  r.has_owner = is_owned(to);
  r.retries += to == Status::retry;
  ++r.steps;
  r.due = due;
  if (leaves_runner && !r.running_key.empty()) admit_next(r.running_key, news);
  if (is_final(to)) end_waits(r);
  if (is_runnable(to) && r.cancel) set(r, Status::cancelled, {}, news);
}

void Ledger::change(const Change& c, News& news) {
  Row r = by_id(c.id);
  if (is_owned(r.status) && r.owner != c.runner)
    throw InvocationStatusOwnershipError(r.id, r.status, r.owner, c.runner);
  if (!may_follow(r.status, c.to)) throw InvocationStatusTransitionError(r.id, r.status, c.to);
  if (is_owned(c.to) && c.runner.empty()) throw InvocationStatusOwnershipError(r.id, r.status, r.owner, "nobody");
  set(r, c.to, c.runner, news, &c);
  if (!c.data.empty()) {
    std::vector<std::string> named;
    {
      Cursor content = db_.query("SELECT data FROM content WHERE number = ?1", r.number);
      if (content.next()) named = hashes(content.text(0));
    }
    name_data(c.data, named);
    db_.run("UPDATE content SET data = ?1 WHERE number = ?2", Blob{packed(named)}, r.number);
  }
  for (const NewInvocation& call : c.then) (void)add_one(call, news);
}

/// The one held longest may run.
void Ledger::admit_next(const std::string& running_key, News& news) {
  const auto number = db_.number(
      "SELECT number FROM invocation WHERE running_key = ?1 AND held IS NOT NULL ORDER BY held LIMIT 1", running_key);
  if (!number) return;
  if (auto r = by_number(*number)) set(*r, Status::rerouted, {}, news);
}

bool Ledger::cancel(const std::string& id, News& news) {
  Row r = by_id(id);
  if (is_final(r.status)) return false;
  if (may_follow(r.status, Status::cancelled) && !is_owned(r.status)) {
    set(r, Status::cancelled, {}, news);
    return true;
  }
  db_.run("UPDATE invocation SET cancel = 1 WHERE number = ?1", r.number);
  news.cancelled.emplace_back(r.owner, r.id);
  return true;
}

void Ledger::release_due(News& news) {
  std::vector<std::int64_t> numbers;
  {
    Cursor c = db_.query("SELECT number FROM invocation WHERE due IS NOT NULL AND due <= ?1 ORDER BY due", stamp());
    while (c.next()) numbers.push_back(c.integer(0));
  }
  for (const std::int64_t number : numbers) {
    auto r = by_number(number);
    if (r && r->status == Status::scheduled) {
      set(*r, Status::registered, {}, news);
      continue;
    }
    const bool ready = r && is_runnable(r->status);
    db_.run("UPDATE invocation SET due = NULL, ticket = ?1 WHERE number = ?2",
            ready ? std::optional(++ticket_) : std::nullopt, number);
    news.work = news.work || ready;
  }
}

// ---- taking ----

std::optional<std::int64_t> Ledger::next(const std::vector<std::string>& queues) {
  {
    Cursor c = db_.query(
        "SELECT number, queue FROM invocation INDEXED BY invocation_urgent WHERE ticket IS NOT NULL AND waiters > 0 "
        "AND waits = 0 ORDER BY waiters DESC, number");
    while (c.next())
      if (detail::serves(queues, c.text(1))) return c.integer(0);
  }
  std::optional<std::int64_t> best;
  std::pair<std::int64_t, std::int64_t> order;  // of the best
  const auto look = [&](const std::string& queue) {
    Cursor c = db_.query(
        "SELECT number, priority, ticket FROM invocation INDEXED BY invocation_ready WHERE ticket IS NOT NULL AND "
        "queue = ?1 ORDER BY priority DESC, ticket LIMIT 1",
        queue);
    if (!c.next()) return;
    const std::pair found{-c.integer(1), c.integer(2)};
    if (best && order < found) return;
    best = c.integer(0);
    order = found;
  };
  if (!queues.empty()) {
    for (const std::string& queue : queues) look(queue);
    return best;
  }
  std::optional<std::string> queue;
  for (;;) {
    {
      Cursor c = queue ? db_.query(
                             "SELECT queue FROM invocation INDEXED BY invocation_ready WHERE ticket IS NOT NULL AND "
                             "queue > ?1 ORDER BY queue LIMIT 1",
                             *queue)
                       : db_.query(
                             "SELECT queue FROM invocation INDEXED BY invocation_ready WHERE ticket IS NOT NULL "
                             "ORDER BY queue LIMIT 1");
      if (!c.next()) return best;
      queue = c.text(0);
    }
    if (detail::serves(queues, *queue)) look(*queue);
  }
}

std::vector<InvocationRecord> Ledger::take(const std::string& runner, std::size_t most,
                                           const std::vector<std::string>& queues, bool begin, News& news) {
  std::vector<InvocationRecord> out;
  if (runner.empty()) throw RunnerError("a runner that takes invocations needs an id");
  while (out.size() < most) {
    const auto number = next(queues);
    if (!number) break;
    auto r = by_number(*number);
    if (!r || !is_runnable(r->status)) {  // written by a stranger: it must not keep the others from running
      db_.run("UPDATE invocation SET ticket = NULL WHERE number = ?1", *number);
      continue;
    }
    if (!r->running_key.empty() &&
        db_.number("SELECT 1 FROM invocation WHERE running_key = ?1 AND owner IS NOT NULL LIMIT 1", r->running_key)) {
      set(*r, r->reroute ? Status::concurrency_controlled : Status::concurrency_controlled_final, {}, news);
      continue;
    }
    set(*r, Status::pending, runner, news);
    if (begin) set(*r, Status::running, runner, news);
    out.push_back(read_record(db_, r->id));
  }
  return out;
}

// ---- waiting for others ----

void Ledger::wait_for(const std::string& waiter, const std::vector<std::string>& ids) {
  const Row w = by_id(waiter);
  for (const std::string& id : ids) {
    const Row r = by_id(id);
    if (is_final(r.status) || db_.number("SELECT 1 FROM wait WHERE waiter = ?1 AND target = ?2", w.number, r.number))
      continue;
    if (std::vector<std::string> path; leads_to(r.number, w.number, path)) {
      std::string text = w.task_id;
      for (const std::string& step : path) text += " -> " + step;
      throw CycleDetectedError(text);
    }
    db_.run("INSERT INTO wait VALUES(?1, ?2)", w.number, r.number);
    db_.run("UPDATE invocation SET waits = waits + 1 WHERE number = ?1", w.number);
    db_.run("UPDATE invocation SET waiters = waiters + 1 WHERE number = ?1", r.number);
  }
}

bool Ledger::leads_to(std::int64_t from, std::int64_t to, std::vector<std::string>& path) {
  struct Step {
    std::int64_t number;
    std::vector<std::int64_t> targets;
  };
  const auto step_to = [&](std::int64_t number) {
    Step step{number, {}};
    Cursor c = db_.query("SELECT target FROM wait WHERE waiter = ?1", number);
    while (c.next()) step.targets.push_back(c.integer(0));
    return step;
  };
  std::unordered_set<std::int64_t> seen;
  std::vector<Step> steps;
  steps.push_back(step_to(from));
  while (!steps.empty()) {
    Step& step = steps.back();
    if (step.number == to) {
      for (const Step& s : steps) {
        Cursor c = db_.query("SELECT task_id FROM invocation WHERE number = ?1", s.number);
        path.push_back(c.next() ? c.text(0) : std::string());
      }
      return true;
    }
    if (step.targets.empty()) {
      steps.pop_back();
      continue;
    }
    const std::int64_t next = step.targets.back();
    step.targets.pop_back();
    if (seen.insert(next).second) steps.push_back(step_to(next));
  }
  return false;
}

void Ledger::end_waits(const Row& r) {
  if (r.waiters != 0) {
    db_.run("UPDATE invocation SET waits = waits - 1 WHERE number IN (SELECT waiter FROM wait WHERE target = ?1)",
            r.number);
    db_.run("DELETE FROM wait WHERE target = ?1", r.number);
  }
  if (r.waits != 0) {
    db_.run("UPDATE invocation SET waiters = waiters - 1 WHERE number IN (SELECT target FROM wait WHERE waiter = ?1)",
            r.number);
    db_.run("DELETE FROM wait WHERE waiter = ?1", r.number);
  }
}

// ---- runners ----

void Ledger::know_runner(const std::string& runner) {
  const std::int64_t at = stamp();
  db_.run("INSERT OR IGNORE INTO runner VALUES(?1, '', 0, ?2, ?3, ?4, ?5)", runner, at, at + kFirstLease.count(),
          uptime() + kFirstLease.count(), boot());
}

void Ledger::heartbeat(const RunnerRecord& told, nanoseconds lease) {
  const std::int64_t at = stamp();
  db_.run(
      "INSERT INTO runner VALUES(?1, ?2, ?3, ?3, ?4, ?5, ?6) ON CONFLICT(id) DO UPDATE SET "
      "description = excluded.description, started = iif(started = 0, excluded.started, started), "
      "last_heartbeat = excluded.last_heartbeat, lease_until = excluded.lease_until, "
      "lease_uptime = excluded.lease_uptime, boot = excluded.boot",
      told.id, told.description, at, at + lease.count(), uptime() + lease.count(), boot());
}

void Ledger::forget_runner(const std::string& runner) {
  db_.run("UPDATE runner SET lease_uptime = 0 WHERE id = ?1", runner);
}

std::vector<std::string> Ledger::recover(nanoseconds max_pending, News& news) {
  const std::int64_t up = uptime();
  std::vector<std::int64_t> lost;
  {
    Cursor c = db_.query(
        "SELECT i.number, i.status, i.taken, r.lease_uptime IS NULL OR r.lease_uptime < ?1 OR r.boot <> ?2 "
        "FROM invocation i INDEXED BY invocation_owned LEFT JOIN runner r ON r.id = i.owner "
        "WHERE i.owner IS NOT NULL",
        up, boot());
    while (c.next())
      if (c.integer(3) || (c.text(1) == name(Status::pending) && up - c.integer(2) > max_pending.count()))
        lost.push_back(c.integer(0));
  }
  db_.run("DELETE FROM runner WHERE lease_uptime < ?1 OR boot <> ?2", up, boot());
  std::vector<std::string> out;
  const auto put_back = [&](std::int64_t number) {
    auto r = by_number(number);
    if (!r || is_final(r->status)) return;
    if (is_owned(r->status))
      set(*r, r->status == Status::pending ? Status::pending_recovery : Status::running_recovery, {}, news);
    if (!may_follow(r->status, Status::rerouted)) return;
    set(*r, Status::rerouted, {}, news);
    out.push_back(r->id);
  };
  for (const std::int64_t number : lost) put_back(number);
  lost.clear();
  {
    Cursor c =
        db_.query("SELECT number FROM invocation WHERE status IN ('KILLED', 'PENDING_RECOVERY', 'RUNNING_RECOVERY')");
    while (c.next()) lost.push_back(c.integer(0));
  }
  for (const std::int64_t number : lost) put_back(number);
  return out;
}

// ---- forgetting ----

std::size_t Ledger::purge_all(News& news) {
  const auto n = db_.number("SELECT count(*) FROM invocation").value_or(0);
  db_.run("DELETE FROM invocation");
  db_.run("DELETE FROM content");
  db_.run("DELETE FROM ended");
  db_.run("DELETE FROM history");
  db_.run("DELETE FROM wait");
  db_.run("DELETE FROM value");
  db_.run("DELETE FROM value_change");
  db_.run("DELETE FROM data");
  db_.run("DELETE FROM data_bytes");
  db_.run("UPDATE state SET purges = purges + 1");
  news.forgotten = true;
  return static_cast<std::size_t>(n);
}

std::size_t Ledger::purge_some(nanoseconds older_than, nanoseconds data_grace, bool& more) {
  std::vector<std::pair<std::int64_t, std::int64_t>> old;  // seq and number
  {
    Cursor c = db_.query("SELECT seq, number, at FROM ended ORDER BY seq LIMIT ?1", kPurgedAtOnce);
    const std::int64_t before = stamp() - older_than.count();
    while (c.next() && c.integer(2) <= before) old.emplace_back(c.integer(0), c.integer(1));
  }
  for (const auto& [seq, number] : old) {
    std::string data;
    {
      Cursor c = db_.query("SELECT data FROM content WHERE number = ?1 AND data IS NOT NULL", number);
      if (c.next()) data = c.text(0);
    }
    if (!data.empty()) release_data(data);
    db_.run("DELETE FROM invocation WHERE number = ?1", number);
    db_.run("DELETE FROM content WHERE number = ?1", number);
    db_.run("DELETE FROM history WHERE number = ?1", number);
    db_.run("DELETE FROM ended WHERE seq = ?1", seq);
  }
  forget_values(kPurgedAtOnce);
  std::vector<std::int64_t> unused;
  {
    Cursor c = db_.query("SELECT number FROM data WHERE unused IS NOT NULL AND unused <= ?1 ORDER BY unused LIMIT ?2",
                         stamp() - data_grace.count(), kDroppedAtOnce);
    while (c.next()) unused.push_back(c.integer(0));
  }
  for (const std::int64_t number : unused) {
    db_.run("DELETE FROM data WHERE number = ?1", number);
    db_.run("DELETE FROM data_bytes WHERE number = ?1", number);
  }
  more = !old.empty() || !unused.empty();
  return old.size();
}

// ---- values and data ----

bool Ledger::set_value(const ValueChange& c, News& news) {
  if (c.key.empty()) throw StateBackendError("a value needs a key");
  if (c.expect != ValueChange::If::anything) {
    const auto v = read_value(db_, c.key);
    if (c.expect == ValueChange::If::absent ? v.has_value() : v != c.expected) return false;
  }
  forget_values(2);
  if (c.value)
    put_value(c.key, *c.value, c.lifetime);
  else
    db_.run("DELETE FROM value WHERE key = ?1", Blob{c.key});
  if (c.key.starts_with(kWatchKey)) read_watches();
  tell_value(c.key, news);
  for (const NewInvocation& call : c.then) (void)add_one(call, news);
  return true;
}

void Ledger::put_value(const std::string& key, const std::string& bytes, nanoseconds lifetime) {
  db_.run(
      "INSERT INTO value(key, value, until) VALUES(?1, ?2, ?3) "
      "ON CONFLICT(key) DO UPDATE SET value = excluded.value, until = excluded.until",
      Blob{key}, Blob{bytes},
      lifetime > nanoseconds::zero() ? std::optional<std::int64_t>(stamp() + lifetime.count()) : std::nullopt);
}

void Ledger::tell_value(const std::string& key, News& news) {
  db_.run("INSERT INTO value_change(key) VALUES(?1)", Blob{key});
  const std::int64_t seq = db_.last_row();
  db_.run("DELETE FROM value_change WHERE seq <= ?1", seq - kChangesKept);
  news.values.emplace_back(seq, key);
}

void Ledger::read_watches() {
  watches_.clear();
  constexpr std::size_t kAtOnce = 1000;
  const std::string prefix(kWatchKey);
  for (std::string after;;) {
    const auto some = read_values(db_, prefix, after, kAtOnce);
    for (const auto& [key, mask] : some) watches_.emplace(key.substr(prefix.size()), mask);
    if (some.size() < kAtOnce) return;
    after = some.back().first;
  }
}

void Ledger::keep_change(const std::string& id, const std::string& task_id, Status status, std::int64_t at,
                         News& news) {
  const auto it = watches_.find(task_id);
  if (it == watches_.end() || !detail::wants(it->second, status)) return;
  const std::string key = detail::change_key(Time(nanoseconds(at)), status, id);
  put_value(key, detail::packed_text(task_id), kChangeLifetime);
  tell_value(key, news);
}

/// Those whose time is over.
void Ledger::forget_values(std::int64_t most) {
  db_.run(
      "DELETE FROM value WHERE rowid IN "
      "(SELECT rowid FROM value WHERE until IS NOT NULL AND until <= ?1 ORDER BY until LIMIT ?2)",
      stamp(), most);
}

void Ledger::put_data(const std::string& hash, const std::string& bytes) {
  db_.run(
      "INSERT INTO data(hash, named, unused) VALUES(?1, 0, ?2) "
      "ON CONFLICT(hash) DO UPDATE SET unused = iif(named = 0, excluded.unused, NULL)",
      Blob{hash}, stamp());
  db_.run("INSERT OR REPLACE INTO data_bytes SELECT number, ?2 FROM data WHERE hash = ?1", Blob{hash}, Blob{bytes});
}

/// Those that `named` does not have yet are added to it.
void Ledger::name_data(const std::vector<std::string>& hashes, std::vector<std::string>& named) {
  for (const std::string& hash : hashes) {
    if (std::find(named.begin(), named.end(), hash) != named.end()) continue;
    db_.run(
        "INSERT INTO data(hash, named) VALUES(?1, 1) ON CONFLICT(hash) DO UPDATE SET named = named + 1, unused = NULL",
        Blob{hash});
    named.push_back(hash);
  }
}

void Ledger::release_data(const std::string& packed) {
  for (const std::string& hash : hashes(packed))
    db_.run("UPDATE data SET named = max(named - 1, 0), unused = iif(named <= 1, ?2, NULL) WHERE hash = ?1", Blob{hash},
            stamp());
}

}  // namespace caller::task::sqlite
