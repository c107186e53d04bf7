#include "session/active_cells.hpp"

#include <utility>
#include <vector>

namespace caller::kernel {

ActiveCellPtr ActiveCells::add(Request request) {
  auto cell = std::make_shared<ActiveCell>();
  cell->request = std::move(request);
  cell->thread = interrupts_.enter();
  const std::lock_guard lock(mutex_);
  cells_.push_back(cell);
  return cell;
}

void ActiveCells::remove(const ActiveCellPtr& cell) {
  const std::lock_guard lock(mutex_);
  cells_.remove(cell);
}

void ActiveCells::set_run(const ActiveCellPtr& cell, PendingBase run) {
  {
    const std::lock_guard lock(mutex_);
    cell->run = run;
  }
  if (cell->stop.load() != ActiveCell::Stop::none && run) run.cancel("the cell was stopped");
}

void ActiveCells::stop_one(ActiveCell& cell, ActiveCell::Stop why) {
  auto none = ActiveCell::Stop::none;
  cell.stop.compare_exchange_strong(none, why);
  PendingBase run;
  {
    const std::lock_guard lock(mutex_);
    run = cell.run;
  }
  if (run) run.cancel(why == ActiveCell::Stop::timeout ? "time-out" : "interrupted");
  input_.cancel(cell.request);
}

void ActiveCells::stop_all(ActiveCell::Stop why) {
  std::vector<ActiveCellPtr> cells;
  {
    const std::lock_guard lock(mutex_);
    cells.assign(cells_.begin(), cells_.end());
  }
  for (const auto& cell : cells) stop_one(*cell, why);
  interrupts_.break_all();
}

void ActiveCells::stop(const ActiveCellPtr& cell, ActiveCell::Stop why) {
  stop_one(*cell, why);
  interrupts_.break_thread(cell->thread);
}

std::size_t ActiveCells::size() {
  const std::lock_guard lock(mutex_);
  return cells_.size();
}

}  // namespace caller::kernel
