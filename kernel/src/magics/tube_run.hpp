// Running a tube for a cell, under each runner.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <caller/tube/cluster.hpp>
#include <caller/tube/runner.hpp>

#include "magics/tube_progress.hpp"

namespace caller::kernel::magics {

/// A run: what is wanted, and what has come of it so far.
///
/// Thread-safety: used by the thread that takes the results; read by others once that has ended. Errors: none.
struct TubeRun {
  TubeRun(tube::Tube t, std::shared_ptr<TubeWatch> w) : tube(std::move(t)), watch(std::move(w)) {}

  static constexpr std::size_t kKept = 10;  ///< results kept from the beginning, and from the end
  void add(tube::Result result);
  bool done() const noexcept { return n && count >= *n; }

  tube::Tube tube;
  std::shared_ptr<TubeWatch> watch;
  std::optional<std::size_t> n;  ///< results, or epochs of a tube without a return; none: until a source ends
  tube::Map inputs;              ///< of each call of process()
  tube::ClusterOptions cluster;  ///< of its runner
  std::size_t count = 0;
  bool ended = false;  ///< a source has ended
  std::vector<tube::Result> first;
  std::deque<tube::Result> last;  ///< those after `first`
};

/// The runners there are, as they are written.
const std::vector<std::string>& tube_runners();

/// Runs it under the runner of that name until it is done, a source has ended, or the cell was stopped.
///
/// Thread-safety: on the Caller of the cell. Cancel-safety: nodes at work are interrupted and waited for.
/// Errors: those of the runner; PendingCancelled or Interrupted when the cell was stopped. Source: noob's runners.
Coro<void> run_tube_with(MagicContext& context, std::string runner, std::shared_ptr<TubeRun> run);

}  // namespace caller::kernel::magics
