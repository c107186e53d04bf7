// The life of an invocation: it is registered, changes its state, is taken. Each change is made where the row still has
// the status and the owner that were read.

#include "../queues.hpp"
#include "ledger.hpp"

namespace caller::task::sqlite {

namespace {
bool waits_to_be_taken(Status s) {
  return is_runnable(s) || s == Status::scheduled || s == Status::concurrency_controlled;
}
}  // namespace

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

void Ledger::note(std::int64_t number, std::int64_t step, Status status, const std::string& owner, std::int64_t at) {
  // Or replace: a count of steps that a stranger wrote must not keep the step from being made.
  db_.run("INSERT OR REPLACE INTO history VALUES(?1, ?2, ?3, nullif(?4, ''), ?5)", number, step, name(status), owner,
          at);
}

/// One that is allowed. `with`: its result or error, and for how long it waits.
void Ledger::set(Row& r, Status to, const std::string& owner, News& news, const Change* with) {
  const std::int64_t at = stamp();
  const bool leaves_runner = r.has_owner && !is_owned(to);
  const bool gives_up = is_runnable(r.status) && is_final(to);  // it may have been its turn
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
  if (!r.running_key.empty()) {
    if (leaves_runner && with && with->code_goes_on)
      db_.run("INSERT OR IGNORE INTO kept VALUES(?1, ?2, ?3)", r.running_key, r.id, with->runner);
    if (leaves_runner ? !is_kept(r.running_key) : gives_up && !is_busy(r.running_key)) admit_next(r.running_key, news);
  }
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
  for (;;) {
    const auto number = db_.number(
        "SELECT number FROM invocation WHERE running_key = ?1 AND held IS NOT NULL ORDER BY held LIMIT 1", running_key);
    if (!number) return;
    auto r = by_number(*number);
    if (r && r->status == Status::concurrency_controlled) return set(*r, Status::rerouted, {}, news);
    db_.run("UPDATE invocation SET held = NULL WHERE number = ?1", *number);  // written by a stranger
  }
}

bool Ledger::is_busy(const std::string& running_key) {
  return is_kept(running_key) ||
         db_.number("SELECT 1 FROM invocation WHERE running_key = ?1 AND owner IS NOT NULL LIMIT 1", running_key)
             .has_value();
}
/// For code that goes on.
bool Ledger::is_kept(const std::string& running_key) {
  return db_.number("SELECT 1 FROM kept WHERE running_key = ?1", running_key).has_value();
}

void Ledger::code_ended(const std::string& runner, const std::string& id, News& news) {
  std::vector<std::string> keys;
  {
    Cursor c = db_.query("SELECT running_key FROM kept WHERE runner = ?1 AND id = ?2", runner, id);
    while (c.next()) keys.push_back(c.text(0));
  }
  free_keys(keys, news);
}

/// Which were kept.
void Ledger::free_keys(const std::vector<std::string>& running_keys, News& news) {
  for (const std::string& key : running_keys) {
    db_.run("DELETE FROM kept WHERE running_key = ?1", key);
    if (!is_busy(key)) admit_next(key, news);
  }
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
  std::optional<std::string> queue;  // texts: bytes come behind all of them, and would not be found by their text
  for (;;) {
    {
      Cursor c = queue ? db_.query(
                             "SELECT queue FROM invocation INDEXED BY invocation_ready WHERE ticket IS NOT NULL AND "
                             "queue > ?1 AND queue < x'' ORDER BY queue LIMIT 1",
                             *queue)
                       : db_.query(
                             "SELECT queue FROM invocation INDEXED BY invocation_ready WHERE ticket IS NOT NULL AND "
                             "queue < x'' ORDER BY queue LIMIT 1");
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
    if (!r->running_key.empty() && is_busy(r->running_key)) {
      const bool its_own =
          db_.number("SELECT 1 FROM kept WHERE running_key = ?1 AND id = ?2", r->running_key, r->id).has_value();
      set(*r, r->reroute || its_own ? Status::concurrency_controlled : Status::concurrency_controlled_final, {}, news);
      continue;
    }
    set(*r, Status::pending, runner, news);
    if (begin) set(*r, Status::running, runner, news);
    out.push_back(read_record(db_, r->id));
  }
  return out;
}

}  // namespace caller::task::sqlite
