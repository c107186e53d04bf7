#include "session/active_cells.hpp"

#include <utility>
#include <vector>

#include "debugger/stub.hpp"

namespace caller::kernel {

ActiveCells::~ActiveCells() {
  PendingBase reminder;
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
    reminder = reminder_;
  }
  if (!reminder) return;
  reminder.cancel("no cells are left");
  reminder.wait_done();
}

ActiveCellPtr ActiveCells::make(Request request, std::string label) {
  auto cell = std::make_shared<ActiveCell>();
  cell->request = std::move(request);
  cell->label = std::move(label);
  cell->thread = interrupts_.enter();
  debugger::obey_breakpoints();
  return cell;
}

ActiveCellPtr ActiveCells::add(Request request, std::string label, std::optional<std::string> lane) {
  const ActiveCellPtr cell = make(std::move(request), std::move(label));
  cell->lane = std::move(lane);
  const std::lock_guard lock(mutex_);
  begin_locked(cell);
  if (interrupted_.comes_after(*cell->request) && (!cell->lane || met_.insert(*cell->lane).second)) {
    cell->asked = interrupted_;
    cell->stop = ActiveCell::Stop::interrupt;
    if (!entries_.empty() && entries_.back().record.reached.empty()) entries_.pop_back();  // it had met none
    note_locked(cell, ActiveCell::Stop::interrupt);
  }
  return cell;
}

ActiveCellPtr ActiveCells::add_handler(Request request) {
  std::string label = request->type();
  const ActiveCellPtr cell = make(std::move(request), std::move(label));
  const std::lock_guard lock(mutex_);
  begin_locked(cell);
  return cell;
}

void ActiveCells::begin_locked(const ActiveCellPtr& cell) {
  cells_.push_back(cell);
  if (!ending_.contains(cell->request->subshell())) return;
  cell->asked = Moment::now();
  cell->stop = ActiveCell::Stop::shutdown;
  note_locked(cell, ActiveCell::Stop::shutdown);
}

void ActiveCells::remove(const ActiveCellPtr& cell) {
  const std::lock_guard lock(mutex_);
  cells_.remove(cell);
  for (Entry& e : entries_)
    if (!e.record.took && e.cell.lock() == cell) e.record.took = std::chrono::steady_clock::now() - e.begin;
}

void ActiveCells::note_locked(const ActiveCellPtr& cell, ActiveCell::Stop why) {
  entries_.push_back(
      {{std::chrono::system_clock::now(), why, cell ? cell->label : "", {}}, cell, std::chrono::steady_clock::now()});
  if (entries_.size() > kRecords) entries_.pop_front();
}

void ActiveCells::set_run(const ActiveCellPtr& cell, PendingBase run) {
  {
    const std::lock_guard lock(mutex_);
    cell->run = run;
  }
  if (cell->stop.load() != ActiveCell::Stop::none && run) run.cancel("the cell was stopped");
}

void ActiveCells::stop_one(ActiveCell& cell, ActiveCell::Stop why, Moment asked) {
  PendingBase run;
  {
    const std::lock_guard lock(mutex_);
    cell.asked = std::move(asked);
    auto none = ActiveCell::Stop::none;
    cell.stop.compare_exchange_strong(none, why);
    run = cell.run;
    remind_later_locked();
  }
  if (run) run.cancel(why == ActiveCell::Stop::timeout ? "time-out" : "interrupted");
  input_.cancel(cell.request);
}

void ActiveCells::remind_later_locked() {
  if (over_ || std::exchange(reminds_, true)) return;
  reminder_ = interrupts_.control().call_later(kReminder, [this] { remind(); });
}

void ActiveCells::remind() {
  const auto stopped = [this] {
    std::vector<std::pair<Request, bool>> out;
    for (const auto& cell : cells_) {
      const ActiveCell::Stop why = cell->stop.load();
      if (why != ActiveCell::Stop::none)  // whoever interrupts can do so again, a time-out comes once
        out.emplace_back(cell->request, why != ActiveCell::Stop::interrupt);
    }
    return out;
  };
  std::vector<std::pair<Request, bool>> now;
  {
    const std::lock_guard lock(mutex_);
    now = stopped();
  }
  for (const auto& [whom, last] : now) interrupts_.remind(whom, last);
  const std::lock_guard lock(mutex_);  // nothing of this object is used any more when the next one has been ordered
  reminds_ = false;
  if (!stopped().empty()) remind_later_locked();
}

void ActiveCells::stop_all(ActiveCell::Stop why, Moment asked) {
  std::vector<ActiveCellPtr> cells;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& cell : cells_)
      if (why != ActiveCell::Stop::interrupt || asked.comes_after(*cell->request)) cells.push_back(cell);
    if (why == ActiveCell::Stop::interrupt) {
      interrupted_ = asked;
      met_.clear();
    }
    if (cells.empty()) note_locked(nullptr, why);
    for (const auto& cell : cells) {
      note_locked(cell, why);
      if (cell->lane) met_.insert(*cell->lane);
    }
  }
  for (const auto& cell : cells) stop_one(*cell, why, asked);
  interrupts_.break_older(asked);
  let_go_();
}

void ActiveCells::stop(const ActiveCellPtr& cell, ActiveCell::Stop why) {
  {
    const std::lock_guard lock(mutex_);
    note_locked(cell, why);
  }
  stop_one(*cell, why, Moment::now());
  interrupts_.break_one(cell->request);
  let_go_();
}

void ActiveCells::stop_subshell(const std::string& id) {
  std::vector<ActiveCellPtr> cells;
  {
    const std::lock_guard lock(mutex_);
    ending_.insert(id);
    for (const auto& cell : cells_)
      if (cell->request->subshell() == id) cells.push_back(cell);
  }
  for (const auto& cell : cells) stop(cell, ActiveCell::Stop::shutdown);
}

void ActiveCells::forget_subshell(const std::string& id) {
  const std::lock_guard lock(mutex_);
  ending_.erase(id);
}

Moment ActiveCells::asked(const ActiveCell& cell) {
  const std::lock_guard lock(mutex_);
  return cell.asked;
}

std::size_t ActiveCells::size() {
  const std::lock_guard lock(mutex_);
  return cells_.size();
}

std::vector<std::string> ActiveCells::labels() {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (const auto& cell : cells_) out.push_back(cell->label);
  return out;
}

std::vector<StopRecord> ActiveCells::records() {
  const std::lock_guard lock(mutex_);
  std::vector<StopRecord> out;
  for (const Entry& e : entries_) out.push_back(e.record);
  return out;
}

}  // namespace caller::kernel
