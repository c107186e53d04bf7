// Who waits for whom.
#include <unordered_set>

#include "ledger.hpp"

namespace caller::task::sqlite {

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

}  // namespace caller::task::sqlite
