// Runners and their leases; what is due, lost or forgotten.
#include "ledger.hpp"

namespace caller::task::sqlite {

namespace {
constexpr nanoseconds kFirstLease = std::chrono::seconds(10);  // of a runner that has not told of itself yet
constexpr std::int64_t kPurgedAtOnce = 2000, kDroppedAtOnce = 100;
}  // namespace

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

/// What a stranger wrote is nobody's: nobody would end it, and its kind would be busy for ever.
void Ledger::disown(std::int64_t number, News& news) {
  std::string running_key;
  {
    Cursor c = db_.query("SELECT running_key FROM invocation WHERE number = ?1 AND owner IS NOT NULL", number);
    if (!c.next()) return;
    running_key = c.text(0);
  }
  db_.run("UPDATE invocation SET owner = NULL WHERE number = ?1", number);
  if (!running_key.empty() && !is_busy(running_key)) admit_next(running_key, news);
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
  std::vector<std::string> out, keys;
  const auto put_back = [&](std::int64_t number) {
    auto r = by_number(number);
    if (!r || is_final(r->status) || (r->has_owner && !is_owned(r->status))) return disown(number, news);
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
  {
    Cursor c = db_.query("SELECT running_key FROM kept WHERE runner NOT IN (SELECT id FROM runner)");
    while (c.next()) keys.push_back(c.text(0));
  }
  free_keys(keys, news);
  return out;
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

std::size_t Ledger::purge_all(News& news) {
  const auto n = db_.number("SELECT count(*) FROM invocation").value_or(0);
  db_.run("DELETE FROM invocation");
  db_.run("DELETE FROM content");
  db_.run("DELETE FROM ended");
  db_.run("DELETE FROM history");
  db_.run("DELETE FROM wait");
  db_.run("DELETE FROM kept");
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

}  // namespace caller::task::sqlite
