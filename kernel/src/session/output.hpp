// The standard streams of the process, as a notebook sees them.
#pragma once

#include <memory>

#include "session/session.hpp"

namespace caller::kernel {

/// Routes std::cout, std::cerr, std::clog, C's stdout and stderr, descriptors 1 and 2 to iopub, and std::cin and C's
/// stdin to questions, as long as it lives.
///
/// The C++ and C streams know the running context, so text reaches the cell whose work wrote it, also from its tasks
/// and threads. What is written to the descriptors themselves (`write`, child processes, other libraries' streams) goes
/// to the newest cell that is not silent. Before any cell, text goes to the original streams.
///
/// Thread-safety: one object per process; settle: any thread.
/// Errors: std::system_error from the constructor.
/// Source: ipykernel OutStream; differs: C streams know the context too.
class Output {
public:
  explicit Output(Session& session);
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  /// Hands over everything written before the call.
  void settle();

  /// Forgets the failures and ends of file of earlier reads, as each cell expects. Waits for nobody who reads.
  void renew_input();

  /// The process's own stderr, for the log.
  int log_descriptor() const noexcept;

private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace caller::kernel
