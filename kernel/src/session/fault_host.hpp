// What the session does about faults that reach beyond a cell.
#pragma once

#include <memory>
#include <string>

#include "interpreter/faults.hpp"

namespace caller::kernel {

class Kernel;

/// Takes over the faults of the process as long as it lives.
///
/// A thread that a cell started and that ended by a fault or an exception is told of in the output of that cell, and
/// fails the cell if it still runs. A fault that is not survived is told of on iopub.
///
/// Thread-safety: one object per process; its functions: any thread.
/// Errors: constructor: std::system_error.
/// Source: none.
class FaultHost final : faults::Host {
public:
  FaultHost(Kernel& kernel, int log_descriptor);
  ~FaultHost() override;
  FaultHost(const FaultHost&) = delete;
  FaultHost& operator=(const FaultHost&) = delete;

private:
  std::shared_ptr<void> origin() override;
  void thread_failed(const std::shared_ptr<void>& origin, const std::exception_ptr& error) noexcept override;
  void loop_begins(const faults::LoopTurns& turns) noexcept override;
  void dying(const std::string& reason) noexcept override;

  Kernel& kernel_;
};

/// Has the loops of the kernel's own threads watched where no FaultHost does it. Those of the program that it lives in
/// are left alone.
///
/// Thread-safety: one object per process; its functions: any thread. Errors: none. Source: none.
class OwnLoops final : faults::LoopWatch {
public:
  explicit OwnLoops(Kernel& kernel) : kernel_(kernel) { faults::count_turns(this); }
  ~OwnLoops() override { faults::count_turns(nullptr); }
  OwnLoops(const OwnLoops&) = delete;
  OwnLoops& operator=(const OwnLoops&) = delete;

private:
  void loop_begins(const faults::LoopTurns& turns) noexcept override;

  Kernel& kernel_;
};

}  // namespace caller::kernel
