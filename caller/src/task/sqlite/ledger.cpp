// What the steps share: the clocks, the row of an invocation, the transaction around them.
#include "ledger.hpp"

#include <time.h>

#include <algorithm>
#include <fstream>

namespace caller::task::sqlite {

Time now() { return std::chrono::time_point_cast<nanoseconds>(std::chrono::system_clock::now()); }
std::int64_t stamp() { return now().time_since_epoch().count(); }

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

namespace {
/// What is written by a stranger may be no number, or more than can be counted.
std::int64_t count_of(const Cursor& c, int column) {
  return std::clamp<std::int64_t>(c.integer(column), 0, std::int64_t(1) << 53);
}
/// Whether a step may be made with it: what it is found by again must be as this library writes it.
bool is_sound(const Cursor& c) {
  return c.is_text(1) && c.is_text(3) && status_of(c.text(3)) && (c.null(4) || c.is_text(4));
}
}  // namespace

Ledger::Row Ledger::row_of(const Cursor& c) {
  Row r;
  r.number = c.integer(0);
  r.id = c.text(1);
  r.task_id = c.text(2);
  r.status_text = c.text(3);
  r.status = status_named(r.status_text, r.id);
  r.owner = c.text(4);
  r.has_owner = !c.null(4);
  r.retries = count_of(c, 5);
  r.steps = count_of(c, 6);
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
  Row r = row_of(c);
  if (!is_sound(c)) throw UnreadableError("what is stored of invocation " + id + " cannot be used; purge it");
  return r;
}

std::optional<Ledger::Row> Ledger::by_number(std::int64_t number) {
  Cursor c = db_.query(CALLER_ROW "number = ?1", number);
  if (!c.next() || !is_sound(c)) return std::nullopt;
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

}  // namespace caller::task::sqlite
